"""The exception for bad input, and one-line texts of other errors."""

from collections.abc import Collection
from itertools import islice

from mtl_ray.credentials import without_credentials


class InputError(ValueError):
    """Bad input from the user, in one line: what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2. Credentials in URLs are removed from it.

    Example:
        >>> str(InputError("data.raw: nothing at s3://me:secret@bucket/log"))
        'data.raw: nothing at s3://bucket/log'
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, without credentials in URLs."""
    return without_credentials(next(iter(str(error).splitlines()), type(error).__name__))


def some(names: Collection[str], limit: int = 30) -> str:
    """Return names as one text: the first ones, and how many more there are."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(islice(names, limit)) + more or "none"


def refuse_credentials(url: str, where: str) -> None:
    """Raise InputError, which begins with `where`, if a URL holds credentials: it would be logged and kept."""
    if without_credentials(url) != url:
        raise InputError(
            f"{where}: expected a URL without user name, password or token, since it is logged and kept with the "
            f"results; found some in {url}; give them by the environment, for example as MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
