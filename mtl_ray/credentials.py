"""Removal of credentials from URLs that are shown or kept."""

import re

_USER = re.compile(
    # `user:password@`; the password may hold a slash that should have been quoted. `host:5000/a@b` does not match.
    r"""(?<=://)[^\s/@:'"]*:(?!\d+/)[^\s@'"]*@"""
    # In a web address also a name alone: it is a token.
    r"""|(?<=http://)[^\s/@:?#'"]+@|(?<=https://)[^\s/@:?#'"]+@"""
)
_SECRET = "secret|token|password|passwd|signature|credential|access_key|account_key|sig"
_QUERY = re.compile(rf"""(?i)([?&][\w.-]*(?:{_SECRET})[\w.-]*=)(?!\*\*\*)[^&\s'"#]+""")


def without_credentials(text: str) -> str:
    """Return a text, such as a URL or an error, with user names, passwords and secret parameters of URLs removed."""
    return _QUERY.sub(r"\1***", _USER.sub("", text)) if "://" in text else text
