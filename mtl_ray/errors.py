"""The one exception that means "the input is at fault"."""


class InputError(ValueError):
    """Bad input from the user: one line that says what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
