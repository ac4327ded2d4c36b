"""The bodies of HTTP requests, read within limits of size, of time, and of memory over all requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class RequestError(Exception):
    """A request that is refused. The message is one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Bodies:
    """All bodies of requests that have no answer yet."""

    def __init__(self, max_bytes: int, max_seconds: float, max_total: int) -> None:
        """Set the limits.

        Args:
            max_bytes: bytes of a body.
            max_seconds: seconds until a body has arrived whole.
            max_total: bytes of all bodies together.
        """
        self.max_bytes, self.max_seconds, self.max_total = max_bytes, max_seconds, max_total
        self.held = 0
        """Bytes of all bodies now."""

    @asynccontextmanager
    async def read(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
        """Yield a body, which counts as held until the end of the block. Raises RequestError beyond a limit."""
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self.max_seconds):
                    async for part in parts:
                        self._add(body, part)
            except TimeoutError:
                raise RequestError(408, f"expected the whole request within {self.max_seconds:g} seconds") from None
            yield body
        finally:
            self.held -= len(body)

    def _add(self, body: bytearray, part: bytes) -> None:
        body += part
        self.held += len(part)
        if len(body) > self.max_bytes:
            raise RequestError(
                413, f"expected a request of at most {self.max_bytes:,} bytes; send fewer rows at a time"
            )
        if self.held > self.max_total:
            raise RequestError(503, f"more than {self.max_total:,} bytes of requests wait for answers; try again")
