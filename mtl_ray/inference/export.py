"""`export`: a model for runtimes without this package, as ONNX or as a program of PyTorch.

What goes in are encoded rows, not raw ones: `encoding.json` beside the model says how each input is made, and
`vocabulary.parquet` which row of a table a value has. What comes out is each task's prediction on its natural scale.
"""

import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mtl_ray.config.custom import Trust
from mtl_ray.config.features import catalogued
from mtl_ray.errors import InputError
from mtl_ray.inference.input_spec import input_spec, random_rows
from mtl_ray.models import MultiTaskModel, checkpoint
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.storage import json_text
from mtl_ray.values.vocabulary import VOCABULARY

Format = Literal["onnx", "torch"]
FILES: dict[Format, str] = {"onnx": "model.onnx", "torch": "model.pt2"}

SIZES = (1, 2, 1000)
"""Rows of the batches on which the exported model must equal the original."""

TOLERANCE = 1e-5
"""Largest difference of a prediction, relative to its size where that is above 1."""

Run = Callable[[Mapping[str, Tensor]], dict[str, np.ndarray]]
"""`predicted_TASK` by name, of encoded rows."""


@dataclass(frozen=True)
class Exported:
    """A model for other runtimes, and how near it is to the original."""

    folder: Path
    file: str
    largest_difference: float
    """Over all tasks and rows of the check, relative to predictions above 1."""
    rows: int
    """Rows of the check."""


class _Scoring(nn.Module):
    """Predictions as `MultiTaskModel.predict`, as the forward pass that exporters want."""

    def __init__(self, model: MultiTaskModel | Ensemble) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`predicted_TASK` by name, from encoded rows; a task may be called like an input."""
        for column in rows.values():  # a batch whose user's columns have one row, as `recommend` has, is not exported
            torch._check(column.shape[0] == next(iter(rows.values())).shape[0])
        return {f"predicted_{task}": values for task, values in self.model.predict(rows).items()}


def export(model: Path, kind: Format, output: str, trust: Trust = False) -> Exported:
    """Write a model for another runtime, `encoding.json` and `vocabulary.parquet`, and check its predictions.

    Args:
        model: checkpoint folder.
        kind: `onnx`, for ONNX Runtime and others, or `torch`, for `torch.export.load`.
        output: folder to make; written aside and renamed when the check passed.
        trust: the `custom` classes that the model may import, see `checkpoint.load`.

    Raises:
        InputError: the model cannot be exported so, the package for it is missing, or `output` is not empty.
        RuntimeError: predictions differ from the original's.
    """
    target = Path(output).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--output {output}: expected a new or empty folder; name another")
    if kind == "onnx" and not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        raise InputError("--format onnx: expected the packages of the extra `export`: pip install 'mtl_ray[export]'")
    loaded = checkpoint.load(model, trust)
    experiment, schema = loaded.experiment, loaded.schema
    if found := list(catalogued(experiment.features)):
        raise InputError(
            f"--format {kind}: features.{found[0]}.unseen `content` looks up the attributes of ids, which cannot be "
            "exported; train without it"
        )
    scoring = _Scoring(loaded.model).eval()
    aside = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir(parents=True)
    try:
        write, read = {"onnx": (_write_onnx, _read_onnx), "torch": (_write_torch, _read_torch)}[kind]
        try:
            write(_program(scoring, random_rows(experiment, schema, 3, 0)), aside / FILES[kind])
        except Exception as error:
            cause: BaseException = error
            while cause.__cause__ is not None:  # what the exporters raise says less than what they met
                cause = cause.__cause__
            reason = " ".join(str(cause).split())[:300]
            raise InputError(f"--format {kind}: this model cannot be exported so: {reason}") from error
        batches = [random_rows(experiment, schema, size, seed) for seed, size in enumerate(SIZES)]
        run = read(aside / FILES[kind])
        difference = float(np.max([_difference(scoring(rows), run(rows)) for rows in batches]))  # NaN stays
        if not difference <= TOLERANCE:
            raise RuntimeError(f"the exported model's predictions differ by {difference:.2g}, above {TOLERANCE:g}")
        (aside / "encoding.json").write_text(json_text(input_spec(experiment, schema)) + "\n")
        shutil.copy(model / VOCABULARY, aside / VOCABULARY)
        if target.exists():
            target.rmdir()
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(target, FILES[kind], difference, sum(SIZES))


def _program(scoring: _Scoring, rows: dict[str, Tensor]) -> torch.export.ExportedProgram:
    """The forward pass for any number of rows."""
    number = torch.export.Dim("rows")
    shapes = ({name: {0: number} for name in rows},)
    return torch.export.export(scoring, (rows,), dynamic_shapes=shapes, strict=False)


def _write_onnx(program: torch.export.ExportedProgram, file: Path) -> None:
    assert program.example_inputs is not None
    inputs, outputs = list(program.example_inputs[0][0]), list(program.module()(*program.example_inputs[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
    assert made is not None
    made.save(file)


def _read_onnx(file: Path) -> Run:
    import onnxruntime  # noqa: PLC0415 - of the extra `export`

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs, outputs = ([entry.name for entry in side()] for side in (session.get_inputs, session.get_outputs))

    def run(rows: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        found = session.run(None, {name: rows[name].numpy() for name in inputs})
        return {name: np.asarray(values) for name, values in zip(outputs, found, strict=True)}

    return run


def _write_torch(program: torch.export.ExportedProgram, file: Path) -> None:
    torch.export.save(program, file)


def _read_torch(file: Path) -> Run:
    module = torch.export.load(file).module()
    return lambda rows: {task: values.detach().numpy() for task, values in module(dict(rows)).items()}


def _difference(expected: Mapping[str, Tensor], found: Mapping[str, np.ndarray]) -> float:
    gaps = []
    for task, values in expected.items():
        true = values.numpy()
        gaps.append((np.abs(found[task] - true) / np.maximum(1, np.abs(true))).max())
    return float(np.max(gaps))
