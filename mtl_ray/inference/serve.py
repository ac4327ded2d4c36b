"""Serve a model over HTTP through Ray Serve: `POST /invocations` (like MLflow's server), `GET /ping`, `GET /ready`.

A model URI with an alias, `models:/NAME@ALIAS`, is followed: a thread polls the alias, loads the version that it moves
to beside the present one and swaps them. A request keeps the version that it started with, so none is dropped. Each
replica polls by itself, so with several, both versions answer for at most one `poll`.
"""

import asyncio
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from mlflow.tracking import MlflowClient
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from mtl_ray.cluster.session import connect
from mtl_ray.errors import InputError, first_line
from mtl_ray.scoring.protocol import encode_rows, read_rows, score_together, write_answer
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.registry import checkpoint_folder

logger = logging.getLogger("ray.serve")


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


@dataclass(frozen=True)
class Live:
    """The model that answers requests."""

    scorer: Scorer
    version: str
    """Version of the registered model; for another URI or a folder, its name."""


Waiting = tuple[Live, Mapping[str, torch.Tensor]]
"""A request's encoded rows, and the model that encoded them."""

api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


def version_of(settings: Settings) -> str:
    """Return the version that the model URI names now. Raises InputError if there is none."""
    alias = re.fullmatch(r"models:/([^@/]+)@(.+)", settings.model)
    if alias is None:
        return settings.model.rpartition("/")[2]
    try:
        return str(MlflowClient(settings.tracking_uri).get_model_version_by_alias(*alias.groups()).version)
    except Exception as error:
        raise InputError(f"{settings.model}: {first_line(error)}") from error


def load(settings: Settings) -> Live:
    """Load the model that the URI names now. Raises InputError if there is none."""
    version = version_of(settings)
    name, at, _ = settings.model.partition("@")
    uri = f"{name}/{version}" if at and settings.model.startswith("models:/") else settings.model
    return Live(Scorer(checkpoint_folder(uri, settings.tracking_uri)), version)


# `ingress` pickles the routes at once, so the functions that they call must be defined above them.
def _score(waiting: list[Waiting]) -> list[Any]:
    """Return the predictions of each request. While versions are swapped, requests may belong to two models."""
    answers: list[Any] = [None] * len(waiting)
    for live in {id(live): live for live, _ in waiting}.values():
        own = [place for place, (model, _) in enumerate(waiting) if model is live]
        for place, scores in zip(own, score_together(live.scorer, [waiting[p][1] for p in own]), strict=True):
            answers[place] = scores
    return answers


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


@serve.deployment(max_ongoing_requests=256)
@serve.ingress(api)
class Answers:
    """A replica, which holds the model."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self.settings = settings
        self.live = load(settings)
        self._together.set_max_batch_size(settings.max_batch)
        self._together.set_batch_wait_timeout_s(settings.batch_wait)
        if "@" in settings.model:
            threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            time.sleep(self.settings.poll)
            try:
                if version_of(self.settings) != self.live.version:
                    self.live = load(self.settings)
                    logger.warning("%s: version %s answers now", self.settings.model, self.live.version)
            except Exception as error:  # the registry may be away for a while; the present version goes on
                logger.warning("version %s goes on: %s", self.live.version, error)

    @api.get("/ping")
    @api.get("/health")
    def ping(self) -> dict[str, str]:
        """Answer that the process is alive."""
        return {"status": "ok"}

    @api.get("/ready")
    def ready(self) -> dict[str, str]:
        """Answer with the version; a replica gets requests only once its model is loaded."""
        return {"model": self.settings.model, "model_version": self.live.version}

    @api.post("/invocations")
    async def invocations(self, request: Request) -> Response:
        """Answer with predictions for the rows in the body."""
        live = self.live
        limit = int(self.settings.max_megabytes * 2**20)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limit:
                return _refusal(413, f"expected a request of at most {limit:,} bytes; send fewer rows at a time")
        try:
            inputs = await asyncio.to_thread(lambda: encode_rows(live.scorer, read_rows(bytes(body))))
        except InputError as error:
            return _refusal(400, str(error))
        scores = await self._together((live, inputs))
        return Response(write_answer(scores, live.version), media_type="application/json")

    @serve.batch
    async def _together(self, waiting: list[Waiting]) -> list[Any]:
        return await asyncio.to_thread(_score, waiting)


def start(settings: Settings, host: str, port: int, replicas: int = 1) -> None:
    """Serve in the background of this process; return once the model is loaded and answers.

    Raises:
        InputError: there is no such model.
    """
    load(settings)  # report a mistake here, not in a replica that Ray restarts again and again
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
