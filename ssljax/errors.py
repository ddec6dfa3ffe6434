"""The one exception for what a user can mend."""


class InputError(ValueError):
  """Something the user gave cannot be used.

  The message is one sentence that names the field or file, what was seen and what was wanted.
  Commands print it and exit with code 2; everything else that escapes is a bug and keeps its
  traceback.
  """
