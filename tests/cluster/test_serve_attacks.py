"""`mtl-ray serve` while others send it half a request, a heap of keys nobody asked for, and a model that is broken."""

import http.client
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import mlflow
import psutil
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from mtl_ray.models.checkpoint import WEIGHTS
from tests.cluster.servers import free_port, mlflow_server, process_that_answers
from tests.support import wait_for

CHECKPOINT = Path(__file__).parents[1] / "fixtures/registered_before_rooms/checkpoint"
SECONDS = float(os.environ.get("MTL_RAY_SERVE_SECONDS", "12"))
ON_REQUEST = pytest.mark.skipif(
    "MTL_RAY_SERVE_SECONDS" not in os.environ, reason="takes minutes; on request: MTL_RAY_SERVE_SECONDS=60"
)
NUM_CLIENTS, NUM_HALF_SENT = 32, 300
MODEL = "models:/shop@champion"
ROWS = json.dumps({"dataframe_records": [{"user": "u1", "item": "i7", "age": 30}, {"user": "new", "item": "i2"}]})
NO_ROWS = json.dumps({"dataframe_records": [{"user": "u1", "item": "i1"}, *({f"key {n}": n} for n in range(50_000))]})
HALF = b"POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A server with two sound versions of a model; the weights of the second version, between them, are NaN."""
    folder = tmp_path_factory.mktemp("registry")
    with mlflow_server(folder, free_port()) as (_, uri):
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(uri)
        client.create_registered_model("shop")
        run = client.create_run("0")
        for version in ("1", "2", "3"):
            place = folder / version / "artifacts/checkpoint"
            shutil.copytree(CHECKPOINT, place)
            if version == "2":
                weights = load_file(place / WEIGHTS)
                broken = {n: w.fill_(torch.nan) if w.is_floating_point() else w for n, w in weights.items()}
                save_file(broken, place / WEIGHTS)
            client.log_artifacts(run.info.run_id, str(folder / version), version)
            client.create_model_version("shop", f"{run.info.artifact_uri}/{version}", run.info.run_id)
        client.set_registered_model_alias("shop", "champion", "1")
        yield uri


@pytest.fixture(scope="module")
def port(registry, tmp_path_factory) -> Iterator[int]:
    """The port of a server with a Ray of its own, as the command starts it."""
    port = free_port()
    options = ["--port", str(port), "--poll", "0.5", "--body-timeout", "5", "--tracking-uri", registry]
    command = [sys.executable, "-m", "mtl_ray.cli", "serve", MODEL, *options]
    with process_that_answers(command, f"http://127.0.0.1:{port}/ready", tmp_path_factory.mktemp("log") / "serve.log"):
        yield port


def ask(connection: http.client.HTTPConnection, body: str) -> tuple[int, dict]:
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def version(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=60) as answer:
        return json.load(answer)["model_version"]


def send_halves(port: int, over: threading.Event) -> Counter[str]:
    """Keep half-sent requests open, and say what becomes of them."""
    found: Counter[str] = Counter()
    open_ones: list[socket.socket] = []
    while not over.is_set():
        while len(open_ones) < NUM_HALF_SENT:
            each = socket.create_connection(("127.0.0.1", port))
            each.sendall(HALF)
            each.setblocking(False)
            open_ones.append(each)
        for each in list(open_ones):
            try:
                told = each.recv(1000)
            except BlockingIOError:
                continue
            except ConnectionError:
                told = b""
            found[told.split(b"\r\n")[0].decode()] += 1
            each.close()
            open_ones.remove(each)
        over.wait(0.2)
    for each in open_ones:
        each.close()
    return found


def memory() -> dict[str, float]:
    """Megabytes of each process of this Ray Serve, by its name and id."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # others of Ray come and go
            name = process.name().partition(".")[0]  # what follows is what it is doing
            if name.startswith(("ray::Serve", "ray::Proxy")):
                found[f"{name} {process.pid}"] = process.memory_info().rss / 2**20
    return found


def left_models(before: set[Path]) -> list[Path]:
    """New entries of the temporary folder with a model in them."""
    return [each for each in set(Path(tempfile.gettempdir()).iterdir()) - before if any(each.rglob(WEIGHTS))]


@ON_REQUEST
def test_no_good_request_fails_and_nothing_is_left(port, registry):
    client, over = MlflowClient(registry), threading.Event()
    before = set(Path(tempfile.gettempdir()).iterdir())

    def good(_: int) -> Counter:
        connection, found = http.client.HTTPConnection("127.0.0.1", port, timeout=60), Counter()
        while not over.is_set():
            status, answer = ask(connection, ROWS)
            found[status, answer.get("model_version")] += 1
        return found

    def pings() -> list[float]:
        took = []
        while not over.is_set():
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/ping")
            assert connection.getresponse().status == 200
            took.append(time.monotonic() - began)
            over.wait(0.2)
        return took

    def heaps() -> Counter[int]:
        found: Counter[int] = Counter()
        while not over.is_set():
            status, _ = ask(http.client.HTTPConnection("127.0.0.1", port, timeout=60), NO_ROWS)
            found[status] += 1
            over.wait(0.5)
        return found

    with ThreadPoolExecutor(NUM_CLIENTS + 3) as pool, ExitStack() as at_end:
        at_end.callback(over.set)  # also after a failure, since the pool waits for its threads
        clients = [pool.submit(good, number) for number in range(NUM_CLIENTS)]
        time.sleep(SECONDS / 4)
        at_first = memory()
        others = [pool.submit(pings), pool.submit(heaps), pool.submit(send_halves, port, over)]
        client.set_registered_model_alias("shop", "champion", "2")
        time.sleep(SECONDS / 2)
        client.set_registered_model_alias("shop", "champion", "3")
        wait_for(lambda: version(port) == "3")
        time.sleep(SECONDS / 4)
        grown = {each: now - at_first[each] for each, now in memory().items()}
        at_end.close()
        answers = sum((each.result() for each in clients), Counter())
        took, heaped, halves = (each.result() for each in others)
    print(f"\n{answers=} {heaped=} {halves=} longest ping {max(took):.2f} s, {grown=} MB")
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {"1", "3"}
    assert max(took) < 5
    assert set(heaped) == {200}
    assert set(halves) == {"HTTP/1.1 408 Request Timeout"}
    assert halves.total() >= NUM_HALF_SENT
    assert len(grown) == len(at_first) >= 2, "the replica and the proxy"
    assert sum(grown.values()) < 100
    assert not left_models(before)
