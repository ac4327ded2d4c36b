"""Credentials in URLs, taken out of what is shown or kept."""

import re

_USER = re.compile(
    # `user:password@`, whose password may hold a slash that should have been quoted; `host:5000/a@b` is none.
    r"""(?<=://)[^\s/@:'"]*:(?!\d+/)[^\s@'"]*@"""
    # Of a web address a name alone as well: a token.
    r"""|(?<=http://)[^\s/@:?#'"]+@|(?<=https://)[^\s/@:?#'"]+@"""
)
_SECRET = "secret|token|password|passwd|signature|credential|access_key|account_key|sig"
_QUERY = re.compile(rf"""(?i)([?&][\w.-]*(?:{_SECRET})[\w.-]*=)(?!\*\*\*)[^&\s'"#]+""")


def without_credentials(text: str) -> str:
    """A text, such as a URL or an error, whose URLs are without user name, password and secret parameters."""
    return _QUERY.sub(r"\1***", _USER.sub("", text)) if "://" in text else text
