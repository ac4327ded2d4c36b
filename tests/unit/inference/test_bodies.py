"""Limits on the bodies of requests."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from mtl_ray.inference.bodies import Bodies, RequestError, WholeBodies


async def parts(*sizes: int, then: float = 0.0) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size
    await asyncio.sleep(then)


async def read(bodies: Bodies, *sizes: int, then: float = 0.0) -> int:
    async with bodies.read(parts(*sizes, then=then)) as body:
        assert bodies.held >= len(body)
        return len(body)


def refused(bodies: Bodies, *sizes: int, then: float = 0.0) -> RequestError:
    with pytest.raises(RequestError) as told:
        asyncio.run(read(bodies, *sizes, then=then))
    assert bodies.held == 0
    return told.value


def test_a_body_within_the_limits_is_read_whole():
    bodies = Bodies(10, 1.0, 100)
    assert asyncio.run(read(bodies, 3, 0, 7)) == 10
    assert bodies.held == 0


def test_a_body_that_never_ends_is_given_up():
    found = refused(Bodies(10, 0.05, 100), 3, then=60)
    assert (found.status, str(found)) == (408, "expected the whole request within 0.05 seconds")


def test_a_large_body_is_refused():
    found = refused(Bodies(10, 1.0, 100), 5, 6)
    assert found.status == 413
    assert "at most 10 bytes" in str(found)


def test_all_bodies_together_are_bounded_and_those_of_half_sent_requests_count_until_they_are_given_up():
    async def many() -> list[int]:
        bodies = Bodies(10, 0.2, 25)
        half_sent = [asyncio.create_task(read(bodies, 9, then=60)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(RequestError) as told:
            await read(bodies, 9)
        assert told.value.status == 503
        small = await read(bodies, 3)
        found = await asyncio.gather(*half_sent, return_exceptions=True)
        assert [error.status for error in found if isinstance(error, RequestError)] == [408, 408]
        return [small, await read(bodies, 9), bodies.held]

    assert asyncio.run(many()) == [3, 9, 0]


async def answer(middleware: WholeBodies, messages: list[dict], method: str = "POST") -> list[dict]:
    """What the middleware sends for the messages of a client, who then stays."""
    sent: list[dict] = []

    async def receive() -> dict:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message) -> None:
        sent.append(message)

    await middleware({"type": "http", "method": method}, receive, send)
    return sent


def part(body: bytes, *, more: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(scope, receive, send) -> None:
    await send(await receive())


def test_the_application_gets_a_body_in_one_part():
    whole = WholeBodies(echo, Bodies(10, 5, 100))
    assert asyncio.run(answer(whole, [part(b"ab", more=True), part(b"", more=True), part(b"c")])) == [part(b"abc")]
    assert whole.bodies.held == 0


def test_a_request_that_never_ends_does_not_come_to_the_application():
    reached: list[int] = []

    async def application(*_) -> None:
        reached.append(1)

    whole = WholeBodies(application, Bodies(10, 0.01, 100))
    head, body = asyncio.run(answer(whole, [part(b"{", more=True)]))
    assert head["status"] == 408
    assert json.loads(body["body"]) == {"error": "expected the whole request within 0.01 seconds"}
    assert not asyncio.run(answer(whole, [{"type": "http.disconnect"}]))
    assert not reached


def test_a_request_without_a_body_is_passed_on_at_once():
    assert asyncio.run(answer(WholeBodies(echo, Bodies(1, 5, 1)), [part(b"more than 1 byte")], "GET"))
