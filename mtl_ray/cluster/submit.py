"""Run commands as jobs of a Ray cluster: pack the folder, send it over HTTP, follow the output."""

import asyncio
import os
import shlex
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient
from requests import RequestException

from mtl_ray.cluster.archive import Package, package
from mtl_ray.cluster.environment import SETUP_HOOK, ForwardedEnvironment
from mtl_ray.cluster.ray_compat import quiet_job_client
from mtl_ray.config import Experiment, load
from mtl_ray.config.custom import code_of
from mtl_ray.config.tables import FilesConfig
from mtl_ray.credentials import without_credentials
from mtl_ray.errors import InputError, first_line
from mtl_ray.storage import absolute

PATIENCE = 60.0
"""Seconds for which a cluster that has just started, or whose head is away, may fail to answer."""
STOP_WINDOW = 5.0
"""Seconds after Ctrl-C within which another one stops the job."""


class SubmissionError(Exception):
    """The cluster refused the job, or does not answer any more."""


@dataclass(frozen=True)
class Job:
    """A submitted job."""

    name: str
    address: str
    client: JobSubmissionClient

    def command(self, what: str) -> str:
        """Return a command of `ray job` for this job, such as `ray job stop NAME`."""
        return f"ray job {what} {self.name} --address {without_credentials(self.address)}"


def locations(experiment: Experiment) -> dict[str, str]:
    """Return the locations where the experiment reads or writes files, by setting."""
    data, training = experiment.data, experiment.training
    found = {"data.output": data.output, "training.output": training.output, "data.raw": data.raw}
    if isinstance(data.source, FilesConfig) and data.raw is None:
        tables = data.source.model_dump(include={"interactions", "events", "users", "items"})
        found |= {f"data.source.{name}": place for name, place in tables.items()}
    for setting, model in {"warm_start": training.warm_start, "distill": training.distill}.items():
        if model is not None and not model.startswith(("models:/", "runs:/")):
            found[f"training.{setting}"] = model
    return {setting: place for setting, place in found.items() if place is not None}


def check_locations(experiment: Experiment, options: Mapping[str, str | None]) -> None:
    """Raise InputError if a job would not find its data.

    They are in memory then, or a location is inside the working folder, of which a job has only a copy.

    Args:
        experiment: has locations in its settings.
        options: locations in options of the command, by option.
    """
    if experiment.data.needs_frames:
        raise InputError(
            f"data.source: `{experiment.data.source.kind}` stands for frames of a Python program here, which a job "
            "does not have; expected files that all machines of the cluster see, as in {kind: table, "
            "interactions: FILE}"
        )
    given = {option: place for option, place in options.items() if place is not None}
    for setting, place in {**locations(experiment), **given}.items():
        if "://" not in place and not place.startswith(("/", "~")):
            example = f"{setting} /shared/..." if setting in given else f"--set {setting}=/shared/..."
            raise InputError(
                f"{setting}: expected a URL or an absolute path that all machines of the cluster see, since a job runs "
                f"in a copy of the working folder without data; found {place}; for example {example}"
            )


def pack(folder: Path, file: str, experiment: Experiment, max_bytes: int) -> tuple[Package, str]:
    """Return the files of the working folder without the experiment's data, and the path of its file among them.

    The packages of `custom` classes are packed too, wherever they are.

    Raises:
        InputError: the experiment file is not packed, or the files are too big.
    """
    root, path = folder.resolve(), Path(file).resolve()
    if not path.is_relative_to(root):
        raise InputError(f"{file}: expected an experiment file in the working folder {root}; see --working-dir")
    places = list(locations(experiment).values())
    with suppress(InputError):  # the file may be incomplete without --set
        places += locations(load(file)).values()
    packed = package(root, [Path(absolute(place)) for place in places if "://" not in place], max_bytes)
    code = code_of(experiment)
    packed = packed.with_code(code)
    if packed.num_bytes > max_bytes:
        raise InputError(
            f"{root}: expected at most {max_bytes / 2**20:.1f} MB to pack; with {', '.join(map(str, code.values()))} "
            f"found {packed.num_bytes / 2**20:.1f} MB; allow more with --max-megabytes"
        )
    inside = path.relative_to(root).as_posix()
    if inside not in packed.files:
        raise InputError(f"{file}: expected an experiment file that the ignore files of {root} let through")
    return packed, inside


def new_name(name: str) -> str:
    """Return a job's name that no other job has, from that of what it does."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def submit(
    arguments: Sequence[str], packed: Package, environment: ForwardedEnvironment, address: str, name: str
) -> Job:
    """Start a job, named by `new_name`, that runs `mtl-ray` with these arguments in a copy of the packed folder.

    Raises:
        InputError: no cluster answers at the address, or it expects another token.
        SubmissionError: the cluster does not take the job.
    """
    quiet_job_client()
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # otherwise the client prefers RAY_ADDRESS
    where, token = f"--address {address}", "expected the token of this cluster as RAY_AUTH_TOKEN"
    try:
        client = JobSubmissionClient(address)
    except AuthenticationError as error:
        raise InputError(f"{where}: {token}, and RAY_AUTH_MODE=token; {first_line(error)}") from None
    except (ConnectionError, RequestException, RuntimeError, ValueError) as error:
        raise InputError(f"{where}: expected the dashboard of a running Ray cluster; {first_line(error)}") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "working_folder.zip"
        packed.write(file)
        runtime = {"working_dir": str(file), "env_vars": environment.variables, "worker_process_setup_hook": SETUP_HOOK}
        command = shlex.join(["python", "-m", "mtl_ray.cli", *arguments])
        end = time.monotonic() + PATIENCE
        while True:
            try:
                client.submit_job(entrypoint=command, runtime_env=runtime, submission_id=name)
                return Job(name, address, client)
            except (RuntimeError, RequestException) as error:
                if "No available agent" not in str(error) or time.monotonic() > end:
                    raise SubmissionError(f"the cluster did not take the job: {first_line(error)}") from None
            time.sleep(1)


def follow(job: Job, echo: Callable[[str], None]) -> int:
    """Copy the job's output until it ends, and return its exit code.

    Ctrl-C ends this with 130 and leaves the job running; a second one within `STOP_WINDOW` stops the job.

    Raises:
        SubmissionError: the cluster did not answer for `PATIENCE`.
    """
    reader = _Output(job)
    reader.start()
    interrupted = None
    while not reader.ended.is_set():
        try:
            reader.ended.wait(0.1)  # after Ctrl-C, `Thread.join` would take the thread for ended
            if interrupted is not None and time.monotonic() > interrupted + STOP_WINDOW:
                echo(f"the job goes on; its output: {job.command('logs')} --follow")
                return 130
        except KeyboardInterrupt:
            if interrupted is not None:
                echo("stopping the job")
                job.client.stop_job(job.name)
                _wait(job)
                echo("stopped")
                return 130
            interrupted = time.monotonic()
            echo(f"\nCtrl-C again stops the job; otherwise it goes on, until: {job.command('stop')}")
    if reader.failure:
        reason = f"{without_credentials(job.address)} does not answer: {first_line(reader.failure)}"
        raise SubmissionError(f"{reason}; the job may go on; its output: {job.command('logs')} --follow")
    _wait(job)
    ended = job.client.get_job_info(job.name)
    if ended.status == JobStatus.SUCCEEDED:
        return 0
    if ended.status == JobStatus.STOPPED:
        echo("the job was stopped")
        return 130
    if ended.driver_exit_code is None:
        echo(f"the job failed: {without_credentials(ended.message or '')}")
        return 1
    return ended.driver_exit_code if ended.driver_exit_code > 0 else 128 - ended.driver_exit_code


def _wait(job: Job) -> None:
    while not job.client.get_job_status(job.name).is_terminal():
        time.sleep(0.5)


class _Output(Thread):
    """A thread that copies a job's output until the job ends, and reconnects after a lost connection."""

    def __init__(self, job: Job) -> None:
        super().__init__(daemon=True)
        self.job, self.written = job, 0
        self.failure: Exception | None = None
        """The error after which it gave up."""
        self.ended = Event()

    def run(self) -> None:
        try:
            self._follow()
        finally:
            self.ended.set()

    def _follow(self) -> None:
        failing_since = None
        while True:
            try:
                asyncio.run(self._copy())
                if self.job.client.get_job_status(self.job.name).is_terminal():
                    return
                failing_since = None
            except (RuntimeError, ClientError, ConnectionError, RequestException) as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() > failing_since + PATIENCE:
                    self.failure = error
                    return
            time.sleep(1)

    async def _copy(self) -> None:
        """Copy the output. A new connection starts from its beginning, so skip what is written already."""
        seen = 0
        async for text in self.job.client.tail_job_logs(self.job.name):
            sys.stdout.write(text[max(0, self.written - seen) :])
            sys.stdout.flush()
            seen += len(text)
            self.written = max(self.written, seen)
