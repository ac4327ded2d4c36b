"""CSV files as chunks of a log. No line is lost, however broken."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.fs as pafs

from mtl_ray.errors import InputError
from mtl_ray.values.partition import INTERNAL

MALFORMED = f"{INTERNAL}malformed"
"""Extra column of a CSV chunk's tables: the text of a row that could not be read, null for a good row."""

BLOCK_BYTES = 4 << 20
# Replaces bytes that are invalid in the encoding; Unicode assigns this code point to no character.
_MARK, _ERRORS = "\ufdd0", "mtl_ray.mark"


@dataclass(frozen=True)
class File:
    """A file on some filesystem; picklable."""

    path: str
    filesystem: pafs.FileSystem = field(default_factory=pafs.LocalFileSystem)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class CsvChunk:
    """A whole text file, read in blocks. Every column is a string; an empty string is null.

    A row with the wrong number of fields, or with bytes that are invalid in the encoding, keeps its row number: it
    becomes a row of nulls whose text is in the extra column `MALFORMED`. Blank lines are not rows.
    """

    source: File
    delimiter: str = ","
    names: tuple[str, ...] | None = None
    """Names of the file's columns. By default the first line holds them and is not a row."""
    columns: tuple[str, ...] | None = None
    """Columns to read; all by default."""
    renames: dict[str, str] = field(default_factory=dict)
    """New names of columns."""
    encoding: str = "utf8"
    quoting: bool = True
    """True if a field in double quotes may contain the delimiter and line ends."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.source.name

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield tables of consecutive rows, with the row number of the first row.

        Raises:
            InputError: an opening quote is not closed within a block, or the file cannot be read.
        """
        columns = self.columns or self.header()
        invalid: list[tuple[int, str]] = []
        first = 1
        try:
            with self._stream() as stream, self._open(stream, columns, invalid) as reader:
                for batch in reader:
                    good, texts = pa.table(batch), None
                    if stream.damaged:
                        good, texts = self._set_aside(good)
                    table = _interleave(good, texts, first, invalid)
                    if len(table):
                        yield first, table.rename_columns([self.renames.get(n, n) for n in table.column_names])
                    first += len(table)
            if invalid:
                none = pa.table({self.renames.get(name, name): pa.nulls(0, pa.string()) for name in columns})
                yield first, _interleave(none, None, first, invalid)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(error) from error

    def header(self) -> tuple[str, ...]:
        """Return the names of the file's columns, before `renames`.

        Raises:
            InputError: the file is empty, or two columns have one name.
        """
        if self.names is not None:
            return self.names
        try:
            with self._stream() as stream, self._open(stream, (), []) as reader:
                names = tuple(reader.schema.names)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(error) from error
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(
                f"{self.source.path}: expected different names of columns in the first line, found "
                f"{', '.join(repeated)} more than once; rename them"
            )
        return names

    def _stream(self) -> "_Utf8Stream":
        return _Utf8Stream(self.source.filesystem.open_input_stream(self.source.path), self.encoding)

    def _open(
        self, stream: "_Utf8Stream", columns: tuple[str, ...], invalid: list[tuple[int, str]]
    ) -> pacsv.CSVStreamingReader:
        header = 1 if self.names is None else 0

        def skip(row: pacsv.InvalidRow) -> str:
            invalid.append((row.number - header, row.text.replace(_MARK, "\ufffd")))
            return "skip"

        # One thread: pyarrow then numbers the invalid rows.
        return pacsv.open_csv(
            stream,
            pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=self.names),
            pacsv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if self.quoting else False,
                newlines_in_values=self.quoting,
                invalid_row_handler=skip,
            ),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=list(columns),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )

    def _set_aside(self, table: pa.Table) -> tuple[pa.Table, pa.Array]:
        """Turn rows with invalid bytes into rows of nulls; return the table and their texts, null for good rows."""
        bad = np.zeros(len(table), dtype=bool)
        for column in table.columns:
            bad |= (
                pc.call_function("match_substring", [column], pc.MatchSubstringOptions(_MARK))
                .fill_null(False)
                .to_numpy()
            )
        texts: list[str | None] = [None] * len(table)
        for row in np.flatnonzero(bad):
            values = [column[int(row)].as_py() or "" for column in table.columns]
            texts[row] = self.delimiter.join(values).replace(_MARK, "\ufffd")
        places = pa.array(np.arange(len(table)), mask=bad)
        return table.take(places), pa.array(texts, pa.string())

    def _unreadable(self, error: Exception) -> InputError:
        message = " ".join(str(error).split())
        return InputError(f"{self.source.path}: expected CSV, found what cannot be read ({message}); mend the file")


def _interleave(good: pa.Table, texts: pa.Array | None, first: int, invalid: list[tuple[int, str]]) -> pa.Table:
    """Put the invalid rows in their places among the good ones, and remove them from the list."""
    num_invalid = 0
    while num_invalid < len(invalid) and invalid[num_invalid][0] <= first + len(good) + num_invalid:
        num_invalid += 1
    texts = pa.nulls(len(good), pa.string()) if texts is None else texts
    if num_invalid:
        taken = invalid[:num_invalid]
        del invalid[:num_invalid]
        num_good = len(good)
        is_invalid = np.zeros(num_good + num_invalid, dtype=bool)
        is_invalid[[number - first for number, _ in taken]] = True
        good = good.take(pa.array(np.cumsum(~is_invalid) - 1, mask=is_invalid))
        places = np.where(is_invalid, np.cumsum(is_invalid) - 1 + num_good, np.cumsum(~is_invalid) - 1)
        texts = pa.concat_arrays([texts, pa.array([text for _, text in taken], pa.string())]).take(pa.array(places))
    return good.append_column(MALFORMED, texts)


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _MARK, error.end


class _Utf8Stream(io.RawIOBase):
    """A stream that reads text of any encoding as UTF-8, with a mark for invalid bytes."""

    def __init__(self, source: pa.NativeFile, encoding: str) -> None:
        codecs.register_error(_ERRORS, _mark)
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)(_ERRORS)
        self._ready = memoryview(b"")
        self.damaged = False
        """True once a mark has been set."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not len(self._ready):
            raw = self._source.read(len(buffer))
            text = self._decoder.decode(raw, final=not raw)
            self.damaged = self.damaged or _MARK in text
            self._ready = memoryview(text.encode())
            if not raw:
                break
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
