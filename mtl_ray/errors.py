"""The one exception that means "the input is at fault", and what a library's says in a line."""


class InputError(ValueError):
    """Bad input from the user: one line that says what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """What an error of a library says first, for the one line that a user sees."""
    return next(iter(str(error).splitlines()), type(error).__name__)
