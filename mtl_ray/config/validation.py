"""Rules of the experiment about losses that compare the rows of a batch, and about the gate of promotion."""

from typing import TYPE_CHECKING, get_args

from mtl_ray.config.balancing import BanditBalancingConfig, FAMOBalancingConfig
from mtl_ray.config.cold_start import ContentGateConfig
from mtl_ray.config.features import IdFeatureConfig, SequenceFeatureConfig, attributes_of
from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.config.tasks import RankingTaskConfig, metric_names

if TYPE_CHECKING:
    from mtl_ray.config.experiment import Experiment


def check_ranking(experiment: "Experiment") -> None:
    """What a ranking task needs and what it does not go with. Raises ValueError."""
    ranking = [name for name, task in experiment.tasks.items() if isinstance(task, RankingTaskConfig)]
    if not ranking:
        return
    first, balancing = ranking[0], experiment.balancing
    read = [(n, f) for n, f in experiment.features.items() if not isinstance(f, IdFeatureConfig) or f.embed]
    for entity in ("user", "item"):
        if not any(feature.entity == entity for _, feature in read):
            raise ValueError(f"tasks.{first}: a ranking task needs an input of the {entity}; found none")
    for name, feature in read:
        if isinstance(feature, SequenceFeatureConfig) and feature.encoder.kind == "attention":
            raise ValueError(
                f"features.{name}.encoder: `attention` reads the row's item, of which the user's vector of the "
                f"ranking task tasks.{first} must not know; choose another encoder"
            )
    space = {"graddrop": "representation", "db_mtl": "parameters"}.get(
        balancing.kind, getattr(balancing, "space", None)
    )
    if space == "representation" or (space and experiment.model.kind == "stem"):
        raise ValueError(
            f"balancing.kind: `{balancing.kind}` compares gradients on what tasks share, and the two towers of "
            f"tasks.{first} (ranking) share embedding tables alone, under `stem` none; expected a method by loss "
            "values, or balancing.space `parameters` under another architecture"
        )
    if isinstance(balancing, BanditBalancingConfig) and set(ranking) & set(balancing.targets):
        raise ValueError("balancing.targets: a ranking task has no loss on validation rows; name other tasks")
    if isinstance(balancing, FAMOBalancingConfig) and balancing.sample < 1:
        raise ValueError(
            f"balancing.sample: the loss of tasks.{first} (ranking) depends on all rows of the batch; expected 1, "
            f"found {balancing.sample}"
        )
    metric = experiment.training.early_stopping.metric if experiment.training.early_stopping else ""
    alone = len(ranking) == len(experiment.tasks)
    unknown = {f"valid/{n}/loss" for n in ranking} | ({"valid/loss"} if alone else set())
    if metric in unknown:
        raise ValueError(
            "training.early_stopping.metric: a ranking task has no loss on validation rows, since that depends on "
            f"the batch; expected one of its metrics, such as valid/{first}/ndcg@10; found `{metric}`"
        )


def check_cold_start(experiment: "Experiment") -> None:
    """What a vector in place of an id needs to be made and taught. Raises ValueError."""
    ids = {name: f for name, f in experiment.features.items() if isinstance(f, IdFeatureConfig)}
    for name, feature in ids.items():
        if feature.cold_start is None:
            continue
        entity, kind = feature.entity, feature.cold_start.kind
        attributes = attributes_of(experiment.features, entity)
        if not feature.embed or not attributes:
            found = f"{', '.join(attributes) or 'none'} and embed: {feature.embed}"
            raise ValueError(f"features.{name}.cold_start: needs `embed` and {entity} attributes; found {found}")
        masking = experiment.training.masking
        rates = masking.user if entity == "user" else masking.item
        if kind in ("content_gate", "clcrec") and not rates.id and not rates.new:
            raise ValueError(
                f"features.{name}.cold_start: `{kind}` is taught what attributes alone mean by rows with a hidden "
                f"id; set training.masking.{entity}.new or .id above 0"
            )
        for other in (n for n, f in ids.items() if kind == "mwuf" and not f.embed):
            raise ValueError(
                f"features.{name}.cold_start: `{kind}` reads the embeddings of those who have interacted; expected "
                f"features.{other}.embed true, found false"
            )
        for task in (n for n, t in experiment.tasks.items() if t.kind == "ranking" and kind == "meta_embedding"):
            raise ValueError(
                f"features.{name}.cold_start: `{kind}` takes steps on the loss of a single row, and that of "
                f"tasks.{task} (ranking) is of the whole batch; choose another kind"
            )


def check_compression(experiment: "Experiment") -> None:
    """What a compressed table does not go with. Raises ValueError."""
    ids = {n: f for n, f in experiment.features.items() if isinstance(f, IdFeatureConfig)}
    compressed = [name for name, feature in ids.items() if feature.compression]
    for name in compressed:
        if not ids[name].embed:
            raise ValueError(f"features.{name}.compression: the id is no input; expected `embed` true, found false")
        if any(feature.cold_start and feature.cold_start.kind == "mwuf" for feature in ids.values()):
            raise ValueError(f"features.{name}.compression: `mwuf` reads a row of its own for each id; leave one out")


def check_compile(experiment: "Experiment") -> None:
    """A compiled network has no gradients inside that a weighting could compare. Raises ValueError."""
    balancing = experiment.balancing
    inside = hasattr(balancing, "space") or balancing.kind in ("graddrop", "db_mtl", "bandit")
    if experiment.training.compile and inside:
        raise ValueError(
            f"training.compile: balancing.kind `{balancing.kind}` compares gradients inside of the network; choose a "
            "method by loss values, or compile: false"
        )


def check_micro_batch(experiment: "Experiment") -> None:
    """Losses between rows need the whole batch at once. Raises ValueError."""
    if experiment.training.micro_batch is None:
        return
    ids = {n: f for n, f in experiment.features.items() if isinstance(f, IdFeatureConfig) and f.cold_start}
    found = [f"tasks.{n}" for n, task in experiment.tasks.items() if isinstance(task, RankingTaskConfig)]
    found += [f"features.{n}.cold_start" for n, f in ids.items() if not isinstance(f.cold_start, ContentGateConfig)]
    if found:
        raise ValueError(f"training.micro_batch: {found[0]} compares rows of the whole batch; leave one of them out")


def check_workers(experiment: "Experiment") -> None:
    """Every worker has rows of its own. Raises ValueError."""
    most, lanes = experiment.training.most_workers, experiment.data.lanes
    if most > lanes:
        raise ValueError(f"training.num_workers: expected at most data.lanes, {lanes}; found {most}")


def check_promotion(experiment: "Experiment") -> None:
    """The gate names metrics of this file that have a better side. Raises ValueError."""
    gate = experiment.promotion
    named = {"metric": [gate.metric] if gate.metric else [], "guards": list(gate.guards)}
    segments = get_args(get_args(PromotionConfig.model_fields["segments"].annotation)[0])
    for key, metrics in named.items():
        for metric in metrics:
            task, _, rest = metric.partition("/")
            name, _, segment = rest.partition("/")
            spec = experiment.tasks.get(task)
            known = () if spec is None else metric_names(spec)
            if name not in known or name == "ratio" or segment not in ("", *segments) or (segment and key == "guards"):
                expected = "TASK/METRIC[/SEGMENT]" if key == "metric" else "TASK/METRIC"
                of = (
                    f"a metric of tasks.{task} ({', '.join(m for m in known if m != 'ratio')})"
                    if spec
                    else (f"a task of this file ({', '.join(experiment.tasks)})")
                )
                raise ValueError(f"promotion.{key}: expected `{expected}` with {of}; found `{metric}`")
