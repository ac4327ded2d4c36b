"""Metrics of all rows and of segments, their intervals and tests; exact over workers."""

from typing import TYPE_CHECKING

from mtl_ray.lazy import lazy

if TYPE_CHECKING:
    from mtl_ray.evaluation.baselines import evaluate_baselines
    from mtl_ray.evaluation.evaluate import evaluate_model, segment_metrics
    from mtl_ray.evaluation.losses import mean_losses
    from mtl_ray.evaluation.metrics import Metric, metric_of
    from mtl_ray.evaluation.roc_auc import SortedRows
    from mtl_ray.evaluation.segments import compute, evaluate_task, segment_masks
    from mtl_ray.evaluation.significance import Summary, bootstrap_bounds, holm, jackknife_interval, paired_p, summarize
    from mtl_ray.evaluation.uncertainty import Bin, calibration, intervals

__all__ = [
    "Bin",
    "Metric",
    "SortedRows",
    "Summary",
    "bootstrap_bounds",
    "calibration",
    "compute",
    "evaluate_baselines",
    "evaluate_model",
    "evaluate_task",
    "holm",
    "intervals",
    "jackknife_interval",
    "mean_losses",
    "metric_of",
    "paired_p",
    "segment_masks",
    "segment_metrics",
    "summarize",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Bin": "uncertainty",
        "Metric": "metrics",
        "SortedRows": "roc_auc",
        "Summary": "significance",
        "bootstrap_bounds": "significance",
        "calibration": "uncertainty",
        "compute": "segments",
        "evaluate_baselines": "baselines",
        "evaluate_model": "evaluate",
        "evaluate_task": "segments",
        "holm": "significance",
        "intervals": "uncertainty",
        "jackknife_interval": "significance",
        "mean_losses": "losses",
        "metric_of": "metrics",
        "paired_p": "significance",
        "segment_masks": "segments",
        "segment_metrics": "evaluate",
        "summarize": "significance",
    },
)
