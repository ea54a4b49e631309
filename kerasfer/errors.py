"""The errors that a user can cause: one line each, without a traceback.

A message says what was expected, what came and what to do. The command line prints it and exits
with the error's `exit_code`; from Python it is an ordinary exception.
"""


class KerasferError(Exception):
    """Something outside the program is wrong; the message says what and how to mend it."""

    exit_code = 1


class RecipeError(KerasferError):
    """A recipe, an override or an argument is not valid."""

    exit_code = 2


class DataError(KerasferError):
    """A dataset is missing, incomplete or unreadable."""


class RunError(KerasferError):
    """A run cannot start, go on or be read."""
