"""The parts of a training as an experiment describes them; whoever has no experiment calls the classes."""

from mtl_ray.config import Experiment
from mtl_ray.models.masking import Masking
from mtl_ray.models.model import MultiTaskModel
from mtl_ray.schema import Schema


def build_model(experiment: Experiment, schema: Schema) -> MultiTaskModel:
    """Build the model of an experiment with random weights, see `MultiTaskModel`."""
    training = experiment.training
    return MultiTaskModel(
        experiment.features,
        experiment.tasks,
        experiment.model,
        schema,
        sparse_rows=training.sparse_rows,
        micro_batch=training.micro_batch,
        batch_size=training.batch_size,
        comparable_losses=float(experiment.balancing.comparable_losses),
    )


def build_masking(experiment: Experiment) -> Masking:
    """Build what decides the inputs that the training of an experiment hides."""
    return Masking(experiment.features, experiment.tasks, experiment.training.masking, experiment.seed)
