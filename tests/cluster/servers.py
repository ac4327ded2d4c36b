"""Servers on loopback that tests start, halt and end: S3 and MLflow."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

from tests.support import wait_for


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


def _answers(url: str, process: subprocess.Popen) -> bool:
    assert process.poll() is None, f"{process.args} ended with {process.returncode}"
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - http
    except OSError:
        return False
    return True


@contextmanager
def process_that_answers(command: list[str], url: str, log: Path) -> Iterator[subprocess.Popen]:
    """A process that answers at an address within two minutes; its output is in `log`."""
    with log.open("a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(lambda: _answers(url, process), 120)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # MLflow's server has processes of its own
        process.wait()


@contextmanager
def s3_server(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A process that speaks S3, and the options of a URL in it; its bucket is `bucket`."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process_that_answers(command, f"http://127.0.0.1:{port}/", folder / "s3.log") as process:
        options = f"endpoint_override=127.0.0.1:{port}&scheme=http"
        fs, _ = pafs.FileSystem.from_uri(f"s3://bucket?{options}&allow_bucket_creation=true")
        fs.create_dir("bucket")
        yield process, options


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen, str]]:
    """An MLflow server on a database in `folder`, and its address."""
    url = f"http://127.0.0.1:{port}"
    places = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "store")]
    command = [sys.executable, "-m", "mlflow", "server", *places, "--host", "127.0.0.1", "--port", str(port)]
    with process_that_answers([*command, "--workers", "1"], f"{url}/health", folder / "mlflow.log") as process:
        yield process, url
