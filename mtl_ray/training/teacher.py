"""Distillation: a model learns the outputs of another one, such as an ensemble, in place of labels."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mtl_ray.config.custom import Trust
from mtl_ray.config.tasks import RankingTaskConfig
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.models.masking import MaskedBatch
from mtl_ray.schema import Schema
from mtl_ray.storage import Folder, local_copy


class Teacher:
    """A trained model whose outputs another one learns (Hinton et al. 2015, without the labels).

    It sees the same inputs as its student, without those that masking hides, so that the student learns what to
    predict for new users and items, too.
    """

    def __init__(
        self, location: str, schema: Schema, device: torch.device, dtype: torch.dtype, trust: Trust = False
    ) -> None:
        """Load a checkpoint.

        Args:
            location: folder or URL of the checkpoint.
            schema: schema of the student.
            device: device of the student.
            dtype: type of its weights.
            trust: the `custom` classes that the model may import, see `checkpoint.load`.

        Raises:
            InputError: it is no checkpoint, or one of another data set, in which encoded values mean others.
        """
        with tempfile.TemporaryDirectory(prefix="mtl_ray-") as place:
            loaded = checkpoint.load(local_copy(Folder(location), Path(place)), trust)
        if loaded.schema.fingerprint != schema.fingerprint:
            raise InputError(
                f"training.distill: expected a model of the data set {schema.fingerprint[:12]}, on which the training "
                f"goes; {location} is one of {loaded.schema.fingerprint[:12]}"
            )
        tasks, model = loaded.experiment.tasks, loaded.model
        whole = model if isinstance(model, Ensemble) else Ensemble([model], [1], list(tasks))
        self.model = whole.to(device, dtype)
        self.tasks = [name for name, spec in tasks.items() if not isinstance(spec, RankingTaskConfig)]
        """Tasks that are taught; a ranking task compares the rows of a batch by their labels."""

    @torch.no_grad()
    def __call__(self, batch: MaskedBatch) -> dict[str, Tensor]:
        """Return the mean outputs (B, num_outputs) of the members, by task."""
        logits = self.model(batch.columns, batch.hidden)
        return {name: logits[name] for name in self.tasks}
