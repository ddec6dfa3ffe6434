"""Methods on graphs; each module says in LEVEL what its examples may be."""
