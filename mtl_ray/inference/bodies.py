"""The bodies of HTTP requests, read within limits of size, of time, and of memory over all requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_MESSAGE = 500
"""Longest message of a refusal, in characters."""


class RequestError(Exception):
    """A request that is refused. The message is one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> Response:
        """Return the answer to the client."""
        message = str(self)[:MAX_MESSAGE].encode(errors="replace").decode()
        return JSONResponse({"error": message}, status_code=self.status)


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


class WholeBodies:
    """A middleware (ASGI) that passes a request on when its body has arrived whole.

    In a proxy it keeps requests that never end from the processes behind it, and from what the proxy holds for them.
    """

    def __init__(self, app: ASGIApp, bodies: Bodies) -> None:
        self.app, self.bodies = app, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            async with self.bodies.read(_parts(receive)) as body:
                await self.app(scope, _whole(bytes(body), receive), send)
        except RequestError as refusal:
            await refusal.response()(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody waits for an answer


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _whole(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body in one part, and then what comes from the client."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
