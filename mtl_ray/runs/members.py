"""Train the members of an ensemble side by side, and make one checkpoint of them.

Each member is a training of its own, with a folder below that of the run and a child run in MLflow. So it resumes,
recovers and stops early like any other.
"""

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import ray
from ray.train import Checkpoint

from mtl_ray.cluster.ray_compat import abort_controller
from mtl_ray.config import Experiment, override
from mtl_ray.config.training import TrainingConfig
from mtl_ray.data.dataset import Prepared
from mtl_ray.evaluation.spread import is_number
from mtl_ray.inference.evaluate import evaluate_checkpoint
from mtl_ray.models import MultiTaskModel, checkpoint
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.fit import best_checkpoint, child_run, fit, local_folder
from mtl_ray.runs.records import TrainedMember
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.kept_epoch import describe_kept, kept_epoch, stopping_metric
from mtl_ray.training.members import members_of, title_of
from mtl_ray.values.vocabulary import VOCABULARY


def train_members(
    experiment: Experiment,
    prepared: Prepared,
    folder: RunFolder,
    run: Run,
    echo: Callable[[str], None],
    resume_command: str,
    trace: str | None = None,
) -> Path:
    """Train the members that have not ended yet, and return the folder of the ensemble's checkpoint.

    Args:
        experiment: has `training.ensemble` of at least 2.
        prepared: its data set.
        folder: folder of the run.
        run: the run in MLflow, the parent of the members' runs.
        echo: receives lines of text for the user.
        resume_command: the command that continues.
        trace: folder that receives a profiler's trace of some steps of the first member.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once all members have ended.
        InputError: a member cannot be trained; the others have been stopped.
    """
    training = _Members(experiment, prepared, folder, run, echo, resume_command, trace)
    if not folder.read_members():
        members = training.train()
        training.join(members)
        folder.write_history(training.folder_of(1).read_history())
        folder.write_members(members)
    for number, member in enumerate(folder.read_members(), 1):
        echo(f"kept: epoch {member.kept} of {member.epochs} in member {number}, of seed {member.seed}")
    echo(describe_kept(experiment, prepared.schema))
    folder.members.delete()
    return local_folder(Checkpoint(folder.joined.location))


def number_at_once(training: TrainingConfig, resources: Sequence[Mapping[str, float]]) -> int:
    """Return how many members are trained at once, at least 1.

    One CPU stays free on each node, on the average: tasks of Ray Data take whole ones, and would wait forever.

    Args:
        training: settings of the ensemble.
        resources: resources by name of each node that has CPUs.
    """
    workers = training.most_workers
    rooms = [(sum(node["CPU"] for node in resources) - len(resources)) / (workers * training.cpus_per_worker)]
    if training.use_gpu:
        rooms.append(sum(node.get("GPU", 0) for node in resources) / workers)
    return max(1, min(training.ensemble, int(min(rooms))))


class Stoppable:
    """The trainings that are under way, which another thread can stop."""

    def __init__(self) -> None:
        self.stopped = False
        self._lock, self._controllers = threading.Lock(), []

    def add(self, controller: Any) -> None:
        """Take the controller of a training that has started; once stopped, end it."""
        with self._lock:
            self._controllers.append(controller)
            stopped = self.stopped
        if stopped:
            abort_controller(controller)

    def stop(self) -> None:
        """End the trainings, and those that start later."""
        with self._lock:
            self.stopped, controllers = True, list(self._controllers)
        for controller in controllers:
            abort_controller(controller)


@dataclass(frozen=True)
class _Members:
    experiment: Experiment
    prepared: Prepared
    folder: RunFolder
    run: Run
    echo: Callable[[str], None]
    resume_command: str
    trace: str | None
    under_way: Stoppable = field(default_factory=Stoppable)

    def folder_of(self, number: int) -> RunFolder:
        """Return the folder of a member, counted from 1."""
        return RunFolder((self.folder.members / str(number)).location)

    def train(self) -> list[TrainedMember]:
        """Train the members that have not ended, and return all in order."""
        staged = stage_models(self.experiment, self.folder)
        changes = {"training.output": self.folder.members.location}
        members = {n: override(member, changes) for n, member in enumerate(members_of(staged), 1)}
        if left := {n: member for n, member in members.items() if not self.folder_of(n).read_members()}:
            self._train_side_by_side(left)
        for number in members:
            self.run.adopt_lost(self.folder_of(number), f"members/{number}")
        return [member for number in members for member in self.folder_of(number).read_members()]

    def _train_side_by_side(self, members: Mapping[int, Experiment]) -> None:
        """Train as many members at once as there is room for."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        number, at_once = self.experiment.training.ensemble, number_at_once(self.experiment.training, nodes)
        beside = -(-at_once // max(1, len(nodes)))  # however few are left: other threads would sum in another order
        self.echo(f"training {len(members)} of {number} members, {min(len(members), at_once)} at a time")
        pool = ThreadPoolExecutor(at_once)
        try:
            for future in as_completed([pool.submit(self._train, n, member, beside) for n, member in members.items()]):
                self.echo(future.result())
        except BaseException:  # Ctrl-C reaches this thread alone
            self.under_way.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _train(self, number: int, member: Experiment, beside: int) -> str:
        """Train a member to its end, and return a line about it."""
        folder, name = self.folder_of(number), f"{self.folder.name}-member{number}"
        title = title_of("", self.experiment, number)
        assert title is not None
        with child_run(member, name, folder, self.run, self.resume_command) as child:
            child.log_experiment(member, self.prepared)
            try:
                trace = self.trace if number == 1 else None
                started = self.under_way.add
                result = fit(
                    member, self.prepared, folder, child, trace=trace, title=title, beside=beside, started=started
                )
            except Exception:
                if self.under_way.stopped:
                    raise KeyboardInterrupt from None
                raise
        history = folder.read_history()
        kept = kept_epoch(history, stopping_metric(member, self.prepared.schema))
        place = Path(best_checkpoint(result).path).name
        folder.write_members([TrainedMember(member.seed, kept, max(history), place)])
        return f"{title} has ended"

    def join(self, members: Sequence[TrainedMember]) -> None:
        """Make the checkpoint of the ensemble, unless it is there. It is written aside, `ensemble.json` last."""
        target = self.folder.joined
        if target.exists(checkpoint.ENSEMBLE):
            return
        with tempfile.TemporaryDirectory(prefix="mtl_ray-") as place:
            made = Path(place) / target.name
            loaded = []
            for number, (settings, member) in enumerate(zip(members_of(self.experiment), members, strict=True), 1):
                kept = self.folder_of(number) / member.checkpoint
                with Checkpoint(kept.location).as_directory() as own:
                    model = checkpoint.load(Path(own), trust=True).model
                assert isinstance(model, MultiTaskModel)
                loaded.append((settings, model, 1))
            schema = self.prepared.schema
            checkpoint.save_ensemble(made, self.experiment, schema, loaded)
            complete(made, self.prepared, target)


def complete(made: Path, prepared: Prepared, target: Folder) -> None:
    """Add to an ensemble's members what its checkpoint has beside them, and copy it to its place, `ensemble.json` last.

    Args:
        made: local folder of a checkpoint, see `save_ensemble`.
        prepared: the data set of its members.
        target: its place.
    """
    prepared.folder.copy_to(VOCABULARY, made / VOCABULARY)
    if prepared.schema.num_rows["valid"]:
        checkpoint.note_noise(made, _noise(made, prepared))
    aside = Folder(target.location).suffixed(".partial")
    aside.delete()
    aside.create()
    pafs.copy_files(str(made), aside.path, destination_filesystem=aside.fs)
    target.delete()  # half a copy, on storage that cannot rename folders
    aside.rename(target, last=checkpoint.ENSEMBLE)


def _noise(ensemble: Path, prepared: Prepared) -> dict[str, float]:
    """Return the root mean squared error of an ensemble on validation rows, by task whose label is a number."""
    checks = evaluate_checkpoint(ensemble, prepared, "valid", trust=True).spread
    numbers = [name for name, task in checkpoint.load(ensemble, trust=True).model.tasks.items() if is_number(task)]
    return {name: checks[name].error for name in numbers if name in checks}
