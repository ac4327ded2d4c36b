"""Distributed training of multi-task recommenders that solve the cold-start problem.

Example:
    >>> import mtl_ray as mtl
    >>> shop = mtl.Experiment(
    ...     name="shop",
    ...     data={"source": "synthetic", "time": "timestamp"},
    ...     features={"user_id": {"kind": "id", "entity": "user"}, "item_id": {"kind": "id", "entity": "item"}},
    ...     tasks={"click": "binary"},
    ... )
    >>> shop.main_task
    'click'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_ray import balancing, config, evaluation, models, tasks
    from mtl_ray.comparison.run import Compared, compare
    from mtl_ray.config import Experiment, load, override
    from mtl_ray.data.dataset import Prepared
    from mtl_ray.data.prepare import prepare
    from mtl_ray.drafting.draft import Draft, init
    from mtl_ray.errors import InputError
    from mtl_ray.inference.batch_result import BatchResult
    from mtl_ray.inference.evaluate import Evaluation, evaluate
    from mtl_ray.inference.predict import predict
    from mtl_ray.promotion.decision import Decision
    from mtl_ray.promotion.promote import promote, rollback
    from mtl_ray.runs.model import Model, load_model
    from mtl_ray.runs.train import Trained, train
    from mtl_ray.tuning.run import Tuned, tune

__version__ = "0.1.0"

__all__ = [
    "BatchResult",
    "Compared",
    "Decision",
    "Draft",
    "Evaluation",
    "Experiment",
    "InputError",
    "Model",
    "Prepared",
    "Trained",
    "Tuned",
    "balancing",
    "compare",
    "config",
    "evaluate",
    "evaluation",
    "init",
    "load",
    "load_model",
    "models",
    "override",
    "predict",
    "prepare",
    "promote",
    "rollback",
    "tasks",
    "train",
    "tune",
]

_HOMES = {
    "BatchResult": "inference.batch_result",
    "Compared": "comparison.run",
    "Decision": "promotion.decision",
    "Draft": "drafting.draft",
    "Evaluation": "inference.evaluate",
    "Experiment": "config",
    "InputError": "errors",
    "Model": "runs.model",
    "Prepared": "data.dataset",
    "Trained": "runs.train",
    "Tuned": "tuning.run",
    "compare": "comparison.run",
    "evaluate": "inference.evaluate",
    "init": "drafting.draft",
    "load": "config",
    "load_model": "runs.model",
    "override": "config",
    "predict": "inference.predict",
    "prepare": "data.prepare",
    "promote": "promotion.promote",
    "rollback": "promotion.promote",
    "train": "runs.train",
    "tune": "tuning.run",
}
"""The module of each public name that is no package. It is imported when somebody asks for the name: Ray, PyTorch and
MLflow take seconds to load."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _HOMES:
        return import_module(f"{__name__}.{name}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
