"""Clusterings that need no number of clusters: plain functions of arrays."""
