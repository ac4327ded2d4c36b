"""Which tasks help a target, from one training."""

import json
from pathlib import Path

import pytest

from mtl_ray.cli.main import main
from mtl_ray.comparison.task_selection import select_tasks
from mtl_ray.config import load
from mtl_ray.errors import InputError
from tests.support import small_experiment


def test_the_tasks_that_help_a_target_become_an_experiment(cluster, settings, work: Path):
    selection = select_tasks(settings, "rating", lambda _: None)
    assert set(selection.affinity) == set(settings.tasks)
    assert all(len(row) == len(settings.tasks) for row in selection.affinity.values())
    assert selection.affinity["rating"]["rating"] > 0  # a step on a task lowers its own loss
    expected = {t for t in settings.tasks if t != "rating" and selection.affinity[t]["rating"] > 0}
    assert set(selection.helpful) == expected
    folder = Path(selection.folder.location)
    assert set(load(folder / "suggested.yaml").tasks) == {"rating", *expected}
    assert json.loads((folder / "affinity.json").read_text())["helpful"] == selection.helpful
    assert (folder / "affinity.png").read_bytes().startswith(b"\x89PNG")


def test_a_target_that_is_no_task_is_refused(capsys):
    with pytest.raises(InputError, match="--affinity stars: expected one of at least two tasks; found click, rating"):
        select_tasks(small_experiment(), "stars")
    with pytest.raises(SystemExit) as stop:
        main(["compare", "jobs/synthetic.yaml", "--affinity", "stars"])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
