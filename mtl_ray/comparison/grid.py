"""The trainings that `compare` declares, each a whole experiment, checked before anything starts."""

from dataclasses import dataclass

from mtl_ray.config.comparison import CompareConfig
from mtl_ray.config.experiment import Experiment
from mtl_ray.config.loading import override
from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.config.tasks import directed_metrics, first_metric
from mtl_ray.errors import InputError
from mtl_ray.schema import segments


@dataclass(frozen=True)
class GridRun:
    """One training of the grid, by one worker. Cells of the same fold and seed are compared in pairs."""

    variant: str
    fold: str | None
    seed: int
    experiment: Experiment
    point: float | None = None
    """Of the curve."""

    @property
    def name(self) -> str:
        """Unique in the grid: `VARIANT[@POINT]/[FOLD-]seedN`."""
        return f"{at_point(self.variant, self.point)}/{f'{self.fold}-' if self.fold else ''}seed{self.seed}"


def at_point(variant: str, point: float | None) -> str:
    """The name of a variant at a point of the curve."""
    return variant if point is None else f"{variant}@{point:g}"


def grid(experiment: Experiment) -> list[GridRun]:
    """All cells, seed by seed and fold by fold, so that complete pairs come early.

    Raises:
        InputError: there is no `compare` section, a variant is no experiment, or a metric or segment does not exist.
    """
    compare = experiment.compare
    if compare is None:
        raise InputError("compare: expected a section `compare` with `variants` and `baseline` in the experiment file")
    # A variant may lack a task on which the gate looks; nothing of a comparison is promoted.
    base = experiment.model_copy(update={"compare": None, "promotion": PromotionConfig()})
    cells = []
    for seed in compare.seeds:
        for fold, fold_changes in (compare.folds or {None: {}}).items():
            where = "compare.seeds" if fold is None else f"compare.folds.{fold}"
            common = override(base, {**fold_changes, "seed": seed, "training.num_workers": 1}, f"{where}:")
            for point, point_changes in (compare.curve or {None: {}}).items():
                at = override(common, point_changes, f"compare.curve.{point}:") if point_changes else common
                for variant, changes in compare.variants.items():
                    changed = override(at, changes, f"compare.variants.{variant}:")
                    cells.append(GridRun(variant, fold, seed, changed, point))
    _check_metrics(compare, cells)
    _check_segments(compare, experiment)
    return cells


def compared_metrics(compare: CompareConfig, cells: list[GridRun]) -> list[str]:
    """Keys `TASK/METRIC` in the order of the table: the declared ones, or the first metric of each task."""
    if compare.metrics:
        return list(compare.metrics)
    tasks = {name: task for cell in cells for name, task in cell.experiment.tasks.items()}
    return [f"{name}/{first_metric(task)}" for name, task in tasks.items()]


def _check_metrics(compare: CompareConfig, cells: list[GridRun]) -> None:
    known = {
        f"{name}/{metric}": None
        for cell in cells
        for name, task in cell.experiment.tasks.items()
        for metric in directed_metrics(task)
    }
    for key in compare.metrics:
        if key not in known:
            raise InputError(f"compare.metrics: expected TASK/METRIC among {', '.join(known)}; found `{key}`")


def _check_segments(compare: CompareConfig, experiment: Experiment) -> None:
    known = ["all", *(segment.name for segment in segments(experiment.evaluation.support_buckets))]
    for name in compare.segments:
        if name not in known:
            raise InputError(f"compare.segments: expected names among {', '.join(known)}; found `{name}`")
