"""Removal of credentials from URLs that are shown or kept."""

import re

_USER = re.compile(
    # `user:password@`, up to the last @: name and password may hold what should have been quoted, such as @ or /.
    # `host:5000/a@b` does not match.
    r"""(?<=://)[^\s/:'"\[]*:(?!\d+(?:[/?#\s]|$))[^\s'"]*@"""
    # In a web address also a name alone: it is a token.
    r"""|(?i:(?<=http://)|(?<=https://))[^\s/:?#'"]+@"""
)
_ANYWHERE = "secret|token|passwo?r?d|signature|credential|sig|(?:access|account|api|auth|private|shared)[._-]?key"
_WORDS = "sas|key|pwd|pass|auth|jwt"
"""Parts of names of parameters: anywhere in a name, or as a word of it."""
_NAME = rf"[\w.-]*(?:{_ANYWHERE})[\w.-]*|(?:[\w.-]*[._-])?(?:{_WORDS})(?:[._-][\w.-]*)?"
_QUERY = re.compile(rf"""(?i)([?&;#](?:{_NAME})=)(?!\*\*\*)[^&\s'"#]+""")


def without_credentials(text: str) -> str:
    """Return a text, such as a URL or an error, with user names, passwords and secret parameters of URLs removed."""
    return _QUERY.sub(r"\1***", _USER.sub("", text)) if "://" in text else text
