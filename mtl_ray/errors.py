"""The one exception that means "the input is at fault", and what a library's says in a line."""

from mtl_ray.credentials import without_credentials


class InputError(ValueError):
    """Bad input from the user: one line that says what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2. Credentials in URLs are left out of it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


def first_line(error: BaseException) -> str:
    """What an error of a library says first, for the one line that a user sees; without credentials in URLs."""
    return without_credentials(next(iter(str(error).splitlines()), type(error).__name__))


def refuse_credentials(url: str, where: str) -> None:
    """Raises InputError, which begins with `where`, if a URL holds credentials: it is logged and kept with results."""
    if without_credentials(url) != url:
        raise InputError(
            f"{where}: expected a URL without user name, password or token, since it is logged and kept with the "
            f"results; found some in {url}; give them by the environment, for example as MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
