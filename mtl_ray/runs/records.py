"""Contents of the files in the folder of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtl_ray.config import Experiment, parse
from mtl_ray.config.custom import Trust
from mtl_ray.storage import Folder, json_text
from mtl_ray.tracking.tracked_run import Run

RUN_FILE = "run.json"

Command = Literal["train", "compare", "tune"]


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`: what a later process needs to resume the run or to report on it."""

    command: Command
    experiment: dict[str, Any]
    """All settings, as a plain tree."""
    dataset: str | None
    """Location of the prepared data set; None for a comparison, whose trainings have several."""
    tracking_uri: str
    """MLflow server, without credentials."""
    run_id: str | None
    """MLflow run; None if MLflow did not answer when the run began."""
    search: dict[str, Any] | None = None
    """Section `tune` of a search, with what was chosen for it."""

    def parse_experiment(self, trust: Trust = False) -> Experiment:
        """Return the settings as an experiment; none of its `custom` classes is imported unless it is trusted."""
        return parse(self.experiment, RUN_FILE, trust=trust)

    def parse_searched(self) -> Experiment:
        """Return the settings as an experiment, with all that a search was given."""
        return parse(self.experiment | {"tune": self.search or self.experiment["tune"]}, RUN_FILE, trust=False)

    def tracked_run(self, folder: Folder) -> Run:
        """Return the MLflow run of a folder's record."""
        return Run(self.tracking_uri, self.run_id, folder)


@dataclass(frozen=True)
class TrainedMember:
    """A member of an ensemble whose training has ended."""

    seed: int
    kept: int
    """The epoch that is kept, of all that were trained, `epochs`."""
    epochs: int
    checkpoint: str
    """Name of the checkpoint of that epoch in the member's folder."""


@dataclass(frozen=True)
class JsonFiles:
    """A folder of JSON files, each written atomically. Names may contain folders."""

    folder: Folder
    indent: int | None = 2

    def exists(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        return self.folder.exists(f"{name}.json")

    def read(self, name: str) -> dict[str, Any]:
        """Return the content of a file."""
        return self.folder.read_json(f"{name}.json")

    def read_all(self) -> list[dict[str, Any]]:
        """Return the contents of all files directly in the folder, sorted by name."""
        return [self.read(path.rpartition("/")[2].removesuffix(".json")) for path in self.folder.files(".json")]

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file."""
        self.folder.write_atomic(f"{name}.json", json_text(content, self.indent))

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        if self.exists(name):
            self.folder.fs.delete_file(f"{self.folder.path}/{name}.json")
