"""Defines the errors that a user can cause.

The message of each is one line that says what was expected, what was received and what to do. The
command line prints it without a traceback and exits with the `exit_code` of the error. In Python
they are ordinary exceptions.
"""


class KerasferError(Exception):
    """The base class of the errors that a user can cause and correct."""

    exit_code = 1


class RecipeError(KerasferError):
    """A recipe, an override or an argument is invalid."""

    exit_code = 2


class DataError(KerasferError):
    """A dataset is missing, incomplete or unreadable."""


class RunError(KerasferError):
    """A run cannot be started, resumed or read."""
