"""`mtl-ray serve`: answers, refusals, and an alias that moves under load."""

import http.client
import itertools
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from ray import serve

from mtl_ray.inference.serve import Settings, start
from tests.cluster.test_job import free_ports

NUM_CLIENTS = 16
SECONDS = float(os.environ.get("MTL_RAY_SERVE_SECONDS", "8"))
"""How long the clients ask; `pytest -s` prints how fast they were answered."""

ROWS = [{"user_id": "u1", "item_id": "i7", "age": 30, "history": ["i1", "i2"]}, {"user_id": "new", "item_id": "i2"}]


@pytest.fixture(scope="module")
def client(trained, settings) -> MlflowClient:
    """The registry, with two versions of `served` that are the same model."""
    mlflow.set_tracking_uri(settings.tracking.uri)
    client = MlflowClient()
    client.create_registered_model("served")
    source = client.get_model_version("small", "1").source
    for _ in range(2):
        client.create_model_version("served", source, trained.run_id)
    client.set_registered_model_alias("served", "champion", "1")
    return client


@pytest.fixture(scope="module")
def port(client, cluster, settings) -> int:
    (port,) = free_ports(1)
    limits = {"max_megabytes": 0.1, "poll": 0.5}
    start(Settings("models:/served@champion", settings.tracking.uri, **limits), "127.0.0.1", port)
    yield port
    serve.shutdown()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_answers_are_those_of_the_registered_model(port, settings):
    expected = mlflow.pyfunc.load_model("models:/served/1").predict(pd.DataFrame(ROWS))
    status, answer = ask(port, "POST", "/invocations", json.dumps({"dataframe_records": ROWS}).encode())
    assert status == 200
    assert answer["model_version"] in ("1", "2")
    assert [set(row) for row in answer["predictions"]] == [set(settings.tasks)] * 2
    for task in settings.tasks:
        found = np.array([row[task] for row in answer["predictions"]])
        np.testing.assert_allclose(found, np.stack(expected[task].to_list()), atol=1e-9)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"dataframe_records": [{"user_id": "u1", "item_id": "i1", "age": "old"}]}, 400, "row 1: age is not a number"),
        ({"dataframe_records": [{"user_id": "u1"}]}, 400, "expected a column `item_id`, the id of the item"),
        ({"rows": []}, 400, "expected an object with either dataframe_records or dataframe_split; found rows"),
        ({"dataframe_records": [{"user_id": "u" * 200_000, "item_id": "i1"}]}, 413, "at most 104,857 bytes"),
    ],
    ids=["bad row", "no item", "no rows", "too large"],
)
def test_a_bad_request_is_refused_in_one_line(port, body, status, message):
    found, answer = ask(port, "POST", "/invocations", json.dumps(body).encode())
    assert found == status
    assert message in answer["error"]
    assert "\n" not in answer["error"]


def test_health_readiness_and_unknown_paths(port):
    assert ask(port, "GET", "/ping") == (200, {"status": "ok"})
    status, answer = ask(port, "GET", "/ready")
    assert (status, answer["model"]) == (200, "models:/served@champion")
    assert ask(port, "GET", "/nothing")[0] == 404
    assert ask(port, "GET", "/invocations")[0] == 405


def load_while_the_alias_moves(port: int, client: MlflowClient, seconds: float) -> list[list[tuple[int, str]]]:
    """By client, status and version of each of its answers, while the champion becomes version 2 half-way."""
    body = json.dumps({"dataframe_records": ROWS}).encode()
    end = time.monotonic() + seconds

    def one_client(_: int) -> list[tuple[int, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        answers = []
        while time.monotonic() < end:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answers.append((response.status, json.loads(response.read()).get("model_version", "")))
        connection.close()
        return answers

    mover = threading.Timer(seconds / 2, client.set_registered_model_alias, ("served", "champion", "2"))
    mover.start()
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        found = list(pool.map(one_client, range(NUM_CLIENTS)))
    mover.join()
    return found


def test_no_request_fails_while_the_alias_moves_and_each_client_sees_one_change(port, client):
    answers = load_while_the_alias_moves(port, client, SECONDS)
    total = sum(map(len, answers))
    print(f"\n{NUM_CLIENTS} clients, {total:,} requests in {SECONDS:g} s, {total / SECONDS:,.0f} a second")
    assert {status for own in answers for status, _ in own} == {200}
    for own in answers:
        assert [version for version, _ in itertools.groupby(version for _, version in own)] == ["1", "2"]
