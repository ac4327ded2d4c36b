"""Task heads: labels to a loss, outputs of a network to a prediction."""

from typing import TYPE_CHECKING

from mtl_ray.lazy import lazy

if TYPE_CHECKING:
    from mtl_ray.tasks.base import RowHead, TaskHead, UserItemVectors, build_task
    from mtl_ray.tasks.binary import Binary
    from mtl_ray.tasks.count import Count
    from mtl_ray.tasks.multiclass import Multiclass
    from mtl_ray.tasks.multilabel import Multilabel
    from mtl_ray.tasks.ordinal import Ordinal
    from mtl_ray.tasks.ranking import Ranking
    from mtl_ray.tasks.regression import Regression
    from mtl_ray.tasks.value import Value

__all__ = [
    "Binary",
    "Count",
    "Multiclass",
    "Multilabel",
    "Ordinal",
    "Ranking",
    "Regression",
    "RowHead",
    "TaskHead",
    "UserItemVectors",
    "Value",
    "build_task",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Binary": "binary",
        "Count": "count",
        "Multiclass": "multiclass",
        "Multilabel": "multilabel",
        "Ordinal": "ordinal",
        "Ranking": "ranking",
        "Regression": "regression",
        "RowHead": "base",
        "TaskHead": "base",
        "UserItemVectors": "base",
        "Value": "value",
        "build_task": "base",
    },
)
