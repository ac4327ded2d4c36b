"""Check, before any work, that every node of the cluster can use the storage."""

import uuid
from collections.abc import Sequence

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl_ray.config import Experiment
from mtl_ray.errors import InputError, first_line
from mtl_ray.storage import PROBE, Folder, absolute, write_probe

TIMEOUT = 120.0
"""Seconds within which a node must have written and read."""


def check_storage(experiment: Experiment, sections: Sequence[str] = ("training", "data")) -> None:
    """Check that every node reads what this process writes to the sections' `output`, and vice versa.

    Raises:
        InputError: a node cannot, or sees another folder under that name; the message names the node.
    """
    names = {absolute(getattr(experiment, section).output): f"{section}.output" for section in sections}
    for location, name in names.items():
        _check(location, name)


def _check(location: str, name: str) -> None:
    mark = f"{PROBE}{uuid.uuid4().hex[:12]}"
    folder = write_probe(location, name, mark)
    nodes = _alive()
    try:
        asked = {node: _ask(location, mark, node) for node in nodes}
        ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=TIMEOUT)
        for node, answer in asked.items():
            fault = _answer(answer) if answer in ready else f"did not answer in {TIMEOUT:.0f} s"
            if fault is None and not folder.exists(f"{mark}-{node}"):
                fault = "writes to another folder of that name"
            if fault and node in _alive():  # not one that was lost meanwhile
                raise InputError(
                    f"{name}: node {nodes[node]} ({node[:8]}) {fault}; expected {location} to be storage that every "
                    "node reads and writes, such as a mounted share or s3://BUCKET/FOLDER"
                )
    finally:
        for path in folder.files():
            if path.rpartition("/")[2].startswith(mark):
                folder.fs.delete_file(path)


def _alive() -> dict[str, str]:
    """Return the address of each live node by id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _ask(location: str, mark: str, node: str) -> ray.ObjectRef:
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_use).options(num_cpus=0, scheduling_strategy=here).remote(location, mark, node)


def _answer(answer: ray.ObjectRef) -> str | None:
    try:
        return ray.get(answer)
    except ray.exceptions.RayError as error:
        return f"died: {first_line(error)}"


def _use(location: str, mark: str, node: str) -> str | None:
    """Return what is wrong with the storage on this node, or None."""
    try:
        folder = Folder(location)
        if not folder.exists(mark) or folder.read_text(mark) != mark:
            return "sees another folder of that name"
        folder.write_text(f"{mark}-{node}", mark)
    except (OSError, InputError) as error:
        return f"cannot use it: {first_line(error)}"
    return None
