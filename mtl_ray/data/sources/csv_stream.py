"""Text of any encoding as the UTF-8 that pyarrow reads."""

import codecs
import io

import pyarrow as pa

MARK, _ERRORS = "\ufdd0", "mtl_ray.mark"
"""Replaces bytes that are invalid in the encoding; Unicode assigns this code point to no character."""


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return MARK, error.end


class Utf8Stream(io.RawIOBase):
    """A stream that reads text of any encoding as UTF-8, with a mark for invalid bytes."""

    def __init__(self, source: pa.NativeFile, encoding: str, quote: str = "") -> None:
        codecs.register_error(_ERRORS, _mark)
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)(_ERRORS)
        self._ready = memoryview(b"")
        self._quote = quote
        self.damaged = False
        """True once a mark has been set."""
        self.quoted = False
        """True once a quote has been read."""

    def readable(self) -> bool:  # noqa: D102
        return True

    def readinto(self, buffer: memoryview) -> int:  # noqa: D102  # pyright: ignore[reportIncompatibleMethodOverride]
        while not len(self._ready):
            raw = self._source.read(len(buffer))
            text = self._decoder.decode(raw, final=not raw)
            self.damaged = self.damaged or MARK in text
            self.quoted = self.quoted or (self._quote != "" and self._quote in text)
            self._ready = memoryview(text.encode())
            if not raw:
                break
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:  # noqa: D102
        if not self.closed:
            self._source.close()
        super().close()
