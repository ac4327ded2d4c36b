"""How a CSV file is written: what the settings say, and what its beginning shows."""

import codecs
import re
from dataclasses import dataclass

import pyarrow as pa

from mtl_ray.config.data import SourceConfig
from mtl_ray.config.tables import FilesConfig
from mtl_ray.data.sources.locate import File
from mtl_ray.errors import InputError

SEPARATORS = (",", ";", "\t", "|")
HEAD_BYTES, ESCAPE = 1 << 16, "\\"
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"))
MARKS += ((codecs.BOM_UTF16_BE, "utf-16"),)
"""Marks at the beginning of a text, and its encoding; longer ones first."""


@dataclass(frozen=True)
class Dialect:
    """How CSV files are written; None for what is to be recognised."""

    separator: str | None = None
    quote: str = '"'
    decimal: str = "."
    encoding: str | None = None
    escape: str = ""


DEFAULT = Dialect()


def dialect_of(source: SourceConfig) -> Dialect:
    """Return how the CSV files of a source are written: its log and tables, and the rows that its model scores."""
    if not isinstance(source, FilesConfig):
        return DEFAULT
    return Dialect(source.separator, source.quote, source.decimal, source.encoding, source.escape)


@dataclass(frozen=True)
class Recognised:
    """The separator and the encoding of a file, and what a person should know of them."""

    separator: str
    encoding: str
    notes: tuple[str, ...]


def recognise(file: File, dialect: Dialect) -> Recognised:
    """Look at the beginning of a file. Settings come before what it shows.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with file.filesystem.open_input_stream(file.path, compression=file.compression) as stream:
            head = stream.read(HEAD_BYTES)
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{file.path}: expected CSV, found what cannot be read ({message}); mend the file") from error
    notes = []
    encoding = dialect.encoding or _encoding(head)
    if not dialect.encoding and encoding != "utf8":
        notes.append(f"read as {encoding.upper()}, as its first bytes say; `encoding` sets another")
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeError:
        text = head.decode(encoding, "replace")
        notes.append(
            f"has bytes that are not {encoding}, and rows with them are bad; if it is written otherwise, set "
            "`encoding` of the source, for example to latin-1"
        )
    usual = str(file.format)
    separator = dialect.separator or _separator(text, usual, dialect.quote)
    if not dialect.separator and separator != usual:
        notes.append(
            f"read with the separator {separator!r}, as its first line has it; `separator` of the source sets another"
        )
    if not dialect.escape and dialect.quote and _has_escapes(text, separator, dialect.quote):
        notes.append(
            f"has quotes after a backslash, and rows with them are bad; if it escapes them, set `escape` to {ESCAPE!r}"
        )
    return Recognised(separator, encoding, tuple(notes))


def _has_escapes(text: str, separator: str, quote: str) -> bool:
    """Return whether a quote after a backslash, in a field that a quote opens, does not close the field."""
    sign, between = re.escape(quote), re.escape(separator)
    return bool(re.search(rf"(?:^|[{between}\r\n]){sign}[^{sign}]*\\{sign}[^{between}{sign}\r\n]", text))


def _encoding(head: bytes) -> str:
    """Return the encoding that a mark, or zeros in every other place, show."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    zeros = [head[place::2].count(0) * 4 > len(head) for place in (0, 1)]
    return {(False, True): "utf-16-le", (True, False): "utf-16-be"}.get((zeros[0], zeros[1]), "utf8")


def _separator(text: str, usual: str, quote: str) -> str:
    """Return the usual separator, if the first line has it outside of quotes or has no other one, or that other one."""
    line = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    if quote:
        sign = re.escape(quote)
        line = re.sub(f"{sign}[^{sign}]*{sign}", "", line)
    found = max(SEPARATORS, key=line.count)
    return found if usual not in line and found in line else usual
