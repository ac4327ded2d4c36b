"""The parts of a training as an experiment describes them; whoever has no experiment calls the classes."""

from mtl_ray.config import Experiment
from mtl_ray.models.masking import Masking
from mtl_ray.models.model import MultiTaskModel
from mtl_ray.schema import Fitted


def build_model(experiment: Experiment, schema: Fitted) -> MultiTaskModel:
    """Build the model of an experiment with random weights, see `MultiTaskModel`.

    Args:
        experiment: its features, tasks and architecture.
        schema: what `prepare` found in the training rows.

    Example:
        >>> from mtl_ray.config import parse
        >>> from mtl_ray.schema import FittedFeature, FittedTask
        >>> keys = {"user_id": {"kind": "id", "entity": "user"}, "item_id": {"kind": "id", "entity": "item"}}
        >>> tree = {"name": "shop", "data": {"source": "synthetic"}, "features": keys, "tasks": {"click": "binary"}}
        >>> ids = FittedFeature(num_embeddings=8)
        >>> fitted = Fitted(features={"user_id": ids, "item_id": ids}, tasks={"click": FittedTask()})
        >>> list(build_model(parse(tree, "shop"), fitted).tasks)
        ['click']
    """
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
    """Build what decides the inputs that the training of an experiment hides.

    Args:
        experiment: its features, tasks, rates and seed.

    Example:
        >>> from mtl_ray.config import parse
        >>> keys = {"user_id": {"kind": "id", "entity": "user"}, "item_id": {"kind": "id", "entity": "item"}}
        >>> tree = {"name": "shop", "data": {"source": "synthetic"}, "features": keys, "tasks": {"click": "binary"}}
        >>> build_masking(parse(tree, "shop")).rates.user.new
        0.1
    """
    return Masking(experiment.features, experiment.tasks, experiment.training.masking, experiment.seed)
