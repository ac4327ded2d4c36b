"""Rules that hold between sections of the experiment file."""

from typing import TYPE_CHECKING, get_args

from mtl_ray.config.data import ColdSplitConfig
from mtl_ray.config.features import IdFeatureConfig, SequenceFeatureConfig, attributes_of
from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.config.segments import segments
from mtl_ray.config.sizes import check_sizes
from mtl_ray.config.tasks import directed_metrics, kinds_where, metric_names

if TYPE_CHECKING:
    from mtl_ray.config.experiment import Experiment

RESERVED = ("row", "loss", "shared", "user_support", "item_support", "user_key", "segment")


def check_experiment(experiment: "Experiment") -> None:
    """Check every rule that holds between sections. Raises ValueError at the first that is broken."""
    check_sizes(experiment)
    check_keys(experiment)
    check_names(experiment)
    check_labels(experiment)
    check_features(experiment)
    check_split(experiment)
    check_widths(experiment)
    check_chains(experiment)
    check_ranking(experiment)
    check_cold_start(experiment)
    check_micro_batch(experiment)
    check_compression(experiment)
    check_compile(experiment)
    check_workers(experiment)
    check_balancing(experiment)
    check_promotion(experiment)
    check_early_stopping(experiment)


def check_keys(experiment: "Experiment") -> None:
    """Require exactly one id feature for the user and one for the item. Raises ValueError."""
    for entity in ("user", "item"):
        keys = [n for n, f in experiment.features.items() if isinstance(f, IdFeatureConfig) and f.entity == entity]
        if len(keys) != 1:
            found = ", ".join(f"features.{k}" for k in keys) or "none"
            raise ValueError(f"features: expected exactly one `id` feature of entity `{entity}`; found {found}")


def check_names(experiment: "Experiment") -> None:
    """Require names of features and tasks that can be columns and parts of metric names, and a main task among them.

    Raises ValueError.
    """
    if experiment.main not in (None, *experiment.tasks):
        raise ValueError(
            f"main: expected a task of this file ({', '.join(experiment.tasks)}); found `{experiment.main}`"
        )
    for section, names in (("features", experiment.features), ("tasks", experiment.tasks)):
        for name in names:
            if name in RESERVED or not name.strip() or "/" in name or "." in name:
                raise ValueError(
                    f"{section}.{name}: expected a name without '/' and '.', not one of {', '.join(RESERVED)}"
                )


def check_labels(experiment: "Experiment") -> None:
    """Forbid a task whose label is visible to it as an input. Raises ValueError."""
    for name, task in experiment.tasks.items():
        inputs = experiment.inputs_of(name)
        if inputs and not task.masked_input:
            raise ValueError(
                f"tasks.{name}: its label column `{experiment.column_of(inputs[0])}` is also the input "
                f"features.{inputs[0]}; remove one of them, or set tasks.{name}.masked_input to the share of "
                "training rows in which that input is hidden and the task is learned"
            )
        if task.masked_input and not inputs:
            raise ValueError(
                f"tasks.{name}.masked_input: no input reads its label column; add the feature or remove the key"
            )
        for feature in inputs:
            kind, entity = experiment.features[feature].kind, experiment.features[feature].entity
            if kind == "id" or entity == "context":
                raise ValueError(
                    f"tasks.{name}.masked_input: expected an attribute of the user or the item as label; "
                    f"found features.{feature}, {kind} of entity {entity}"
                )


def check_features(experiment: "Experiment") -> None:
    """Check each feature against the other sections. Raises ValueError."""
    for name, feature in experiment.features.items():
        feature.check(name, experiment)


def check_split(experiment: "Experiment") -> None:
    """Require a time column for a split that asks what is earlier. Raises ValueError."""
    split = experiment.data.split
    first = isinstance(split, ColdSplitConfig) and (split.shown_users or split.shown_items or split.evaluated_after)
    if (split.kind == "time" or first) and experiment.data.time is None:
        raise ValueError("data.split: what is earlier needs `data.time`, the log's time column")


def check_widths(experiment: "Experiment") -> None:
    """Require vectors of one width for interactions that multiply or add them. Raises ValueError."""
    width, interaction = experiment.model.embedding_dim, experiment.model.interaction
    kind = interaction.kind
    if not interaction.needs_one_width:
        return
    fitting = (task for task in experiment.tasks.values() if task.has_one_output and not task.masked_input)
    if interaction.adds_dot_product and not any(fitting):
        expected = ", ".join(kinds_where("has_one_output"))
        raise ValueError(
            f"model.interaction: `{kind}` needs a task of kind {expected} that sees all inputs; found none"
        )
    for name, feature in experiment.features.items():
        found = feature.width(width)
        if feature.is_input and found != width:
            raise ValueError(f"features.{name}: model.interaction `{kind}` needs the width {width}; found {found}")


def check_chains(experiment: "Experiment") -> None:
    """Require `after` to name binary tasks, without cycles. Raises ValueError."""
    for name, task in experiment.tasks.items():
        seen = [name]
        while (before := experiment.tasks[seen[-1]].after) is not None:
            if before in seen or before not in experiment.tasks or not experiment.tasks[before].is_probability:
                raise ValueError(
                    f"tasks.{seen[-1]}.after: expected a binary task that comes before it; found `{before}`"
                )
            seen.append(before)
        if task.after and (not task.is_probability or task.where or task.masked_input):
            raise ValueError(
                f"tasks.{name}.after: expected a binary task whose label is defined on all rows, without `where` "
                f"and `masked_input`; found kind {task.kind}"
            )


def check_balancing(experiment: "Experiment") -> None:
    """Require the tasks that balancing names to exist. Raises ValueError."""
    for key, names in experiment.balancing.named_tasks.items():
        for name in names:
            if name not in experiment.tasks:
                raise ValueError(
                    f"balancing.{key}: expected tasks of this file ({', '.join(experiment.tasks)}); found `{name}`"
                )


def check_early_stopping(experiment: "Experiment") -> None:
    """Require an early-stopping metric that some task of this file reports. Raises ValueError."""
    stopping = experiment.training.early_stopping
    if stopping is None or stopping.metric in (None, "valid/loss"):
        return
    split, _, rest = stopping.metric.partition("/")
    task, _, metric = rest.partition("/")
    metric, _, segment = metric.partition("/")
    if split != "valid" or task not in experiment.tasks:
        raise ValueError(
            "training.early_stopping.metric: expected `valid/loss` or `valid/TASK/METRIC[/SEGMENT]` with a task of "
            f"this file ({', '.join(experiment.tasks)}); found `{stopping.metric}`"
        )
    known = ("loss", *metric_names(experiment.tasks[task]))
    named = [each.name for each in segments(experiment.evaluation.support_buckets)]
    if metric not in known or (segment and (metric == "loss" or segment not in named)):
        of = f"one of {', '.join(known)}" if metric not in known else f"a segment among {', '.join(named)}"
        raise ValueError(
            f"training.early_stopping.metric: expected `valid/{task}/METRIC[/SEGMENT]` with {of} (the loss has none); "
            f"found `{stopping.metric}`"
        )


def check_ranking(experiment: "Experiment") -> None:
    """Check what a ranking task needs and what it does not go with. Raises ValueError."""
    ranking = [name for name, task in experiment.tasks.items() if task.compares_rows]
    if not ranking:
        return
    first, balancing = ranking[0], experiment.balancing
    read = [(n, f) for n, f in experiment.features.items() if f.is_input]
    for entity in ("user", "item"):
        if not any(feature.entity == entity for _, feature in read):
            raise ValueError(f"tasks.{first}: a ranking task needs an input of the {entity}; found none")
    for name, feature in read:
        if isinstance(feature, SequenceFeatureConfig) and feature.encoder.reads_row:
            raise ValueError(
                f"features.{name}.encoder: `{feature.encoder.kind}` reads `{feature.of}` of the row, of which the "
                f"{feature.entity}'s vector of the ranking task tasks.{first} must not know; choose another encoder"
            )
    space = balancing.gradient_space
    if space == "representation" or (space and experiment.model.has_private_and_shared_tables):
        raise ValueError(
            f"balancing.kind: `{balancing.kind}` compares gradients on what tasks share, and the two towers of "
            f"tasks.{first} (ranking) share embedding tables alone, under `stem` none; expected a method by loss "
            "values, or balancing.space `parameters` under another architecture"
        )
    if set(ranking) & set(balancing.rewarding_tasks(experiment.main_task)):
        where = "balancing.targets" if "targets" in balancing.keys_of_tasks else "main"
        raise ValueError(f"{where}: a ranking task has no loss on validation rows; name other tasks")
    if balancing.sampled_share < 1:
        raise ValueError(
            f"balancing.sample: the loss of tasks.{first} (ranking) depends on all rows of the batch; expected 1, "
            f"found {balancing.sampled_share}"
        )
    metric = experiment.stopping_metric or ""
    alone = len(ranking) == len(experiment.tasks)
    unknown = {f"valid/{n}/loss" for n in ranking} | ({"valid/loss"} if alone else set())
    if metric in unknown:
        raise ValueError(
            "training.early_stopping.metric: a ranking task has no loss on validation rows, since that depends on "
            f"the batch; expected one of its metrics, such as valid/{first}/ndcg@10; found `{metric}`"
        )


def check_cold_start(experiment: "Experiment") -> None:
    """Check what a cold-start vector needs to be made and trained. Raises ValueError."""
    ids = {name: f for name, f in experiment.features.items() if isinstance(f, IdFeatureConfig)}
    for name, feature in ids.items():
        if feature.cold_start is None:
            continue
        entity, cold_start, kind = feature.entity, feature.cold_start, feature.cold_start.kind
        attributes = attributes_of(experiment.features, entity)
        if not feature.embed or not attributes:
            found = f"{', '.join(attributes) or 'none'} and embed: {feature.embed}"
            raise ValueError(f"features.{name}.cold_start: needs `embed` and {entity} attributes; found {found}")
        masking = experiment.training.masking
        rates = masking.user if entity == "user" else masking.item
        if cold_start.needs_hidden_ids and not rates.id and not rates.new:
            raise ValueError(
                f"features.{name}.cold_start: `{kind}` is taught what attributes alone mean by rows with a hidden "
                f"id; set training.masking.{entity}.new or .id above 0"
            )
        for other in (n for n, f in ids.items() if cold_start.needs_other_id and not f.embed):
            raise ValueError(
                f"features.{name}.cold_start: `{kind}` reads the embeddings of those who have interacted; expected "
                f"features.{other}.embed true, found false"
            )
        for task in (n for n, t in experiment.tasks.items() if t.compares_rows and cold_start.needs_row_losses):
            raise ValueError(
                f"features.{name}.cold_start: `{kind}` takes steps on the loss of a single row, and that of "
                f"tasks.{task} (ranking) is of the whole batch; choose another kind"
            )


def check_compression(experiment: "Experiment") -> None:
    """Forbid compressed tables where every id needs a row of its own. Raises ValueError."""
    ids = {n: f for n, f in experiment.features.items() if isinstance(f, IdFeatureConfig)}
    compressed = [name for name, feature in ids.items() if feature.compression]
    for name in compressed:
        if not ids[name].embed:
            raise ValueError(f"features.{name}.compression: the id is no input; expected `embed` true, found false")
        for cold_start in (f.cold_start for f in ids.values() if f.cold_start and f.cold_start.needs_row_per_id):
            raise ValueError(
                f"features.{name}.compression: `{cold_start.kind}` reads a row of its own for each id; leave one out"
            )


def check_compile(experiment: "Experiment") -> None:
    """Forbid compilation under balancing methods that compare gradients inside the network. Raises ValueError."""
    balancing = experiment.balancing
    if experiment.training.compile and balancing.reads_gradients:
        raise ValueError(
            f"training.compile: balancing.kind `{balancing.kind}` compares gradients inside of the network; choose a "
            "method by loss values, or compile: false"
        )


def check_micro_batch(experiment: "Experiment") -> None:
    """Forbid micro-batches where a loss compares the rows of the whole batch. Raises ValueError."""
    if experiment.training.micro_batch is None:
        return
    ids = {n: f for n, f in experiment.features.items() if isinstance(f, IdFeatureConfig) and f.cold_start}
    found = [f"tasks.{n}" for n, task in experiment.tasks.items() if task.compares_rows]
    found += [f"features.{n}.cold_start" for n, f in ids.items() if f.cold_start and f.cold_start.compares_rows]
    if found:
        raise ValueError(f"training.micro_batch: {found[0]} compares rows of the whole batch; leave one of them out")


def check_workers(experiment: "Experiment") -> None:
    """Require rows of its own for every worker. Raises ValueError."""
    most, lanes = experiment.training.most_workers, experiment.data.lanes
    if most > lanes:
        raise ValueError(f"training.num_workers: expected at most data.lanes, {lanes}; found {most}")


def check_promotion(experiment: "Experiment") -> None:
    """Require the promotion gate to name metrics of this file that have a better direction. Raises ValueError."""
    gate = experiment.promotion
    named = {"metric": [gate.metric] if gate.metric else [], "guards": list(gate.guards)}
    segments = get_args(get_args(PromotionConfig.model_fields["segments"].annotation)[0])
    for key, metrics in named.items():
        for metric in metrics:
            task, _, rest = metric.partition("/")
            name, _, segment = rest.partition("/")
            spec = experiment.tasks.get(task)
            known = () if spec is None else directed_metrics(spec)
            if name not in known or segment not in ("", *segments) or (segment and key == "guards"):
                expected = "TASK/METRIC[/SEGMENT]" if key == "metric" else "TASK/METRIC"
                of = (
                    f"a metric of tasks.{task} ({', '.join(known)})"
                    if spec
                    else (f"a task of this file ({', '.join(experiment.tasks)})")
                )
                raise ValueError(f"promotion.{key}: expected `{expected}` with {of}; found `{metric}`")
