"""Serve a model over HTTP through Ray Serve: `POST /invocations` (like MLflow's server), `GET /ping`, `GET /ready`.

A model URI with an alias, `models:/NAME@ALIAS`, is followed: a thread polls the alias, loads the version that it moves
to beside the present one and swaps them. A request keeps the version that it started with, so none is dropped. Each
replica polls by itself, so with several, both versions answer for at most one `poll`.

The proxy passes a request on when its body has arrived whole (`WholeBodies`). A replica takes requests without a queue
of Ray Serve, since one whose body never ends would hold a place in it, where Ray had been started without that proxy:
`Bodies` limits what they may hold, few threads read them, and `/ping` and `/ready` wait for none of that.
"""

import asyncio
import itertools
import json
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import ray
import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import ClientDisconnect

from mtl_ray.cluster.session import connect
from mtl_ray.errors import InputError
from mtl_ray.inference.bodies import Bodies, RequestError
from mtl_ray.inference.live import Follower, Live, load, version_of
from mtl_ray.inference.upkeep import ENVIRONMENT, LIMITS, keep_small, repeat
from mtl_ray.scoring.protocol import MAX_ROWS, answer_parts, read_inputs, score_together

logger = logging.getLogger("ray.serve")

READERS = 2
"""Threads that read requests; more would only wait for each other, and each keeps memory of its own."""

BODIES = 32
"""How many of the largest bodies the proxy and a replica hold at a time."""

MAX_REQUESTS = 10_000
"""Requests that a replica takes at a time: more than a proxy has connections, so that none waits for a slow client."""


@dataclass(frozen=True)
class Settings:
    """Settings of the server."""

    model: str
    """Model URI or checkpoint folder."""
    tracking_uri: str
    max_batch: int = 64
    """The most requests that are scored together."""
    batch_wait: float = 0.002
    """Seconds for which a request waits for others."""
    max_megabytes: float = 8.0
    """Largest request body."""
    poll: float = 5.0
    """Seconds between two polls of the alias."""
    max_rows: int = MAX_ROWS
    """The most rows of a request."""
    body_timeout: float = 10.0
    """Seconds within which a request body must arrive."""
    trust: bool = False
    """True if the model may import its `custom` classes."""


Waiting = tuple[Live, Mapping[str, torch.Tensor]]
"""A request's encoded rows, and the model that encoded them."""

Scores = Mapping[str, np.ndarray]
"""A request's predictions by task."""

api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


# `ingress` pickles the routes at once, so the functions that they call must be defined above them.
def _score(waiting: list[Waiting]) -> list[Scores]:
    """Return the predictions of each request. While versions are swapped, requests may belong to two models."""
    found: list[Scores] = [{}] * len(waiting)
    for live in {id(live): live for live, _ in waiting}.values():
        own = [place for place, (model, _) in enumerate(waiting) if model is live]
        for place, scores in zip(own, score_together(live.scorer, [waiting[p][1] for p in own]), strict=True):
            found[place] = scores
    return found


def _respond(scores: Scores, version: str) -> Response:
    """Return the answer. A large one is written while it is sent.

    Ray Serve would copy it as a whole several times, and its proxy keep it until the garbage collector comes.
    """
    parts = list(itertools.islice(written := answer_parts(scores, version), 2))
    if len(parts) < 2:
        return Response(parts[0], media_type="application/json")

    async def send() -> AsyncIterator[bytes]:
        for part in itertools.chain(parts, written):
            yield part
            await asyncio.sleep(0)  # let other requests go on

    return StreamingResponse(send(), media_type="application/json")


def _limits(settings: Settings) -> tuple[int, float, int]:
    """Return what `Bodies` takes."""
    largest = int(settings.max_megabytes * 2**20)
    return largest, settings.body_timeout, BODIES * largest


@serve.deployment(max_ongoing_requests=MAX_REQUESTS)
@serve.ingress(api)
class Answers:
    """A replica, which holds the model."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self.settings = settings
        self.follower = Follower(settings.model, settings.tracking_uri, settings.poll, settings.trust)
        self.bodies = Bodies(*_limits(settings))
        self.readers, self.scoring = ThreadPoolExecutor(READERS), ThreadPoolExecutor(1)
        self._together.set_max_batch_size(settings.max_batch)
        self._together.set_batch_wait_timeout_s(settings.batch_wait)
        if "@" in settings.model:
            repeat(self.follower.look, settings.poll)
        keep_small()

    @api.get("/ping")
    @api.get("/health")
    async def ping(self) -> dict[str, str]:
        """Answer that the process is alive."""
        return {"status": "ok"}

    @api.get("/ready")
    async def ready(self) -> dict[str, str]:
        """Answer with the version; a replica gets requests only once its model is loaded."""
        return {"model": self.settings.model, "model_version": self.follower.live.version}

    @api.post("/invocations")
    async def invocations(self, request: Request) -> Response:
        """Answer with predictions for the rows in the body."""
        live = self.follower.live
        try:
            async with self.bodies.read(request.stream()) as body:
                inputs = await asyncio.get_running_loop().run_in_executor(
                    self.readers, read_inputs, live.scorer, body, self.settings.max_rows
                )
            return _respond(await self._together((live, inputs)), live.version)
        except InputError as error:
            refusal = RequestError(400, str(error))
        except RequestError as error:
            refusal = error
        except (ClientDisconnect, ray.exceptions.TaskCancelledError):  # the latter from within Ray Serve
            refusal = RequestError(400, "expected the whole request; the client went away")
        except Exception:  # a fault of the server: its log has it, the client a line
            logger.exception("a request failed")
            refusal = RequestError(500, "the server failed on this request; its log says why")
        return refusal.response()

    @serve.batch
    async def _together(self, waiting: list[Waiting]) -> list[Scores]:
        return await asyncio.get_running_loop().run_in_executor(self.scoring, _score, waiting)


def start(settings: Settings, host: str, port: int, replicas: int = 1) -> None:
    """Serve in the background of this process; return once the model is loaded and answers.

    Raises:
        InputError: there is no such model.
    """
    # Report a mistake here, not in a replica that Ray restarts again and again.
    load(settings.model, settings.tracking_uri, version_of(settings.model, settings.tracking_uri), settings.trust)
    if not ray.is_initialized():  # the processes of a Ray that is started here take the environment over
        os.environ |= ENVIRONMENT | os.environ | {LIMITS: json.dumps(_limits(settings))}
    connect()
    serve.start(http_options=HTTPOptions(host=host, port=port))
    app = Answers.options(num_replicas=replicas).bind(settings)  # pyright: ignore[reportAttributeAccessIssue]
    serve.run(app, logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False))


def serve_forever(settings: Settings, host: str, port: int, replicas: int, echo: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; requests in progress are answered."""
    start(settings, host, port, replicas)
    echo(f"{settings.model} answers at http://{host}:{port}/invocations; stop with Ctrl-C")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    serve.shutdown()
