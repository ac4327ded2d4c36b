"""CSV files as chunks of a log. No line is lost, however broken."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mtl_ray.data.sources.csv_stream import MARK, Utf8Stream
from mtl_ray.data.sources.locate import File
from mtl_ray.errors import InputError
from mtl_ray.values.partition import INTERNAL

MALFORMED = f"{INTERNAL}malformed"
"""Extra column of a CSV chunk's tables: the text of a row that could not be read, null for a good row."""

BLOCK_BYTES = 4 << 20
_LINE_END = re.compile(r"\r\n|\n|\r")
_DECIMAL_COMMA = r"^(\s*[+-]?\d*),(\d+([eE][+-]?\d+)?\s*)$"


@dataclass(frozen=True)
class CsvChunk:
    """A whole text file, read in blocks. Every column is a string; an empty string is null.

    A row with the wrong number of fields, or with bytes that are invalid in the encoding, keeps its row number: it
    becomes a row of nulls whose text is in the extra column `MALFORMED`. So does each line between two stray quotes: a
    field in quotes swallowed it, and it would be a row by itself. Blank lines are not rows.
    """

    source: File
    delimiter: str = ","
    names: tuple[str, ...] | None = None
    """Names of the file's columns. By default the first line holds them and is not a row."""
    first_line: tuple[str, ...] | None = None
    """The names in the first line, where they have been read already."""
    columns: tuple[str, ...] | None = None
    """Columns to give; all by default. All are read: only a whole row shows that it swallowed others."""
    renames: dict[str, str] = field(default_factory=dict)
    """New names of columns."""
    encoding: str = "utf8"
    quote: str = '"'
    """A field between two of these may contain the delimiter and line ends; empty if quotes are part of the text."""
    escape: str = ""
    """Sign before a quote that is part of the text; empty if such a quote is doubled."""
    decimal: str = "."
    """With a comma, numbers such as `1,5` come as `1.5`."""

    @property
    def file(self) -> str:
        """Name of the file within its log."""
        return self.source.shown

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield tables of consecutive rows, with the row number of the first row.

        Raises:
            InputError: an opening quote is not closed within a block, or the file cannot be read.
        """
        names = self.names or self.first_line or self.header()
        invalid: list[tuple[int, str]] = []
        first, added = 1, 0  # `added` lines were taken for a part of a row
        try:
            with self._stream() as stream, self._open(stream, names, invalid) as reader:
                for batch in reader:
                    good, texts = pa.table(batch), None
                    if stream.damaged:
                        good, texts = self._set_aside(good)
                    table = _interleave(good, texts, first, invalid)
                    whole = self._apart(table) if stream.quoted else table
                    if len(whole):
                        yield first + added, self._finished(whole)
                    first, added = first + len(table), added + len(whole) - len(table)
            if invalid:
                none = pa.table({name: pa.nulls(0, pa.string()) for name in names})
                whole = self._apart(_interleave(none, None, first, invalid))
                yield first + added, self._finished(whole)
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
        if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
            raise InputError(
                f"{self.source.path}: expected different names of columns in the first line, found "
                f"{', '.join(repeated[:10])} more than once; rename them"
            )
        return names

    def _stream(self) -> Utf8Stream:
        file = self.source
        raw = file.filesystem.open_input_stream(file.path, compression=file.compression)
        return Utf8Stream(raw, self.encoding, self.quote)

    def _open(
        self, stream: Utf8Stream, columns: tuple[str, ...], invalid: list[tuple[int, str]]
    ) -> pacsv.CSVStreamingReader:
        header = 1 if self.names is None else 0

        def skip(row: pacsv.InvalidRow) -> str:
            invalid.append((row.number - header, row.text.replace(MARK, "\ufffd")))
            return "skip"

        # One thread: pyarrow then numbers the invalid rows.
        return pacsv.open_csv(
            stream,
            pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=self.names),
            pacsv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self.quote or False,
                escape_char=self.escape or False,
                newlines_in_values=bool(self.quote),
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
                pc.call_function("match_substring", [column], pc.MatchSubstringOptions(MARK))
                .fill_null(False)
                .to_numpy()
            )
        texts: list[str | None] = [None] * len(table)
        for row in np.flatnonzero(bad):
            values = [column[int(row)].as_py() or "" for column in table.columns]
            texts[row] = self.delimiter.join(values).replace(MARK, "\ufffd")
        places = pa.array(np.arange(len(table)), mask=bad)
        return table.take(places), pa.array(texts, pa.string())

    def _apart(self, table: pa.Table) -> pa.Table:
        """Take rows apart that swallowed others; each of their lines becomes a malformed row."""
        suspicious = np.zeros(len(table), dtype=bool)
        for column in filter(_has_line_ends, table.columns):
            suspicious |= pc.match_substring_regex(column, "[\r\n]").fill_null(False).to_numpy()
        lines = {int(row): self._lines(table.slice(row, 1).to_pylist()[0]) for row in np.flatnonzero(suspicious)}
        if not any(lines.values()):
            return table
        places, texts = [], []
        for row, text in enumerate(table.column(MALFORMED).to_pylist()):
            swallowed = lines.get(row)
            places += [None] * len(swallowed) if swallowed else [row]
            texts += swallowed or [text]
        good = table.drop_columns([MALFORMED]).take(pa.array(places, pa.int64()))
        return good.append_column(MALFORMED, pa.array(texts, pa.string()))

    def _lines(self, row: dict[str, str | None]) -> list[str]:
        """Return the lines of a row with line ends, if all but perhaps one would be rows by themselves; else none.

        Prose of several lines has commas, too. So where a comma separates fields, two columns show nothing, nor does a
        line with a comma before a space.
        """
        malformed, last = row.pop(MALFORMED), len(row) - 1
        text = self.delimiter.join(value or "" for value in row.values()) if malformed is None else malformed
        lines = [line for line in _LINE_END.split(text) if line]
        whole = [line for line in lines if line.count(self.delimiter) == last]
        may_be_prose = malformed is None and self.delimiter == ","
        if not last or (may_be_prose and (last == 1 or any(", " in line for line in whole))):
            return []
        return lines if len(whole) >= max(2, len(lines) - 1) else []

    def _finished(self, table: pa.Table) -> pa.Table:
        """Choose columns, give them their new names and numbers their decimal point."""
        table = table.select([*(self.columns or table.column_names[:-1]), MALFORMED])
        if self.decimal == ",":
            columns = [pc.replace_substring_regex(c, _DECIMAL_COMMA, r"\1.\2") for c in table.columns[:-1]]
            table = pa.table([*columns, table.columns[-1]], table.column_names)
        return table.rename_columns([self.renames.get(name, name) for name in table.column_names])

    def _unreadable(self, error: Exception) -> InputError:
        message = " ".join(str(error).split())
        return InputError(f"{self.source.path}: expected CSV, found what cannot be read ({message}); mend the file")


def _has_line_ends(column: pa.ChunkedArray) -> bool:
    """Return whether a column of text may have line ends: a look at all its bytes, not at each value."""
    texts = [buffer.to_pybytes() for chunk in column.chunks if (buffer := chunk.buffers()[2]) is not None]
    return any(b"\n" in text or b"\r" in text for text in texts)


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
