"""The data sets of `make quality`: a log, its features and tasks, and not a word about the model and training."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PREDEFINED = {"kind": "predefined"}
Tree = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """A data set, its folds and what is shown of it."""

    name: str
    tree: Tree
    """Sections of the experiment file."""
    metrics: tuple[str, ...]
    """Metrics `TASK/METRIC[/SEGMENT]` of the table."""
    folds: Mapping[str, Tree] = field(default_factory=lambda: {"": {}})
    """Changes to the tree by dotted path."""
    with_ensemble: bool = False
    """True if an ensemble of five is measured, too."""


def _kind(kind: str, entity: str, *names: str) -> Tree:
    return {name: {"kind": kind, "entity": entity} for name in names}


def movielens(raw: Path, protocol: str) -> DataSet:
    """MovieLens 100K: the published split u1, or a protocol of `folds.parquet`."""
    lists = {"kind": "sequence", "values": "rating", "known": "all", "max_length": 200}
    source: Tree = {"kind": "movielens", "variant": "100k"}
    split: Tree = {**PREDEFINED, "column": "split", "train": ["train", "valid", "rest", "shown"], "test": ["test"]}
    folds: dict[str, Tree] = {f"fold{fold}": {"data.source.fold": fold} for fold in range(5)}
    if protocol == "u1":
        source["split"], split = "u1", {**PREDEFINED, "train": ["u1.base"], "test": ["u1.test"]}
        folds = {f"seed{seed}": {"seed": seed} for seed in range(5)}
    else:
        source["protocol"] = protocol
    features = _kind("id", "user", "user_id") | _kind("numeric", "user", "age")
    features |= _kind("categorical", "user", "gender", "occupation") | {"history": {**lists, "of": "item_id"}}
    features |= _kind("id", "item", "item_id") | {"audience": {**lists, "of": "user_id", "entity": "item"}}
    features |= _kind("multi_categorical", "item", "genres") | _kind("numeric", "item", "year")
    tasks: Tree = {"rating": {"kind": "regression", "range": [1, 5]}}
    metrics = ("rating/rmse",)
    if protocol == "profile":
        split = {**PREDEFINED, "column": "split", "train": ["train", "valid", "rest"], "test": ["test"]}
        split["shown"] = ["shown"]
        history = {"kind": "sequence", "of": "item_id", "max_length": 737, "known": "all"}
        features = {"user_id": {"kind": "id", "entity": "user", "embed": False}, "history": history}
        features |= _kind("id", "item", "item_id") | _kind("multi_categorical", "item", "genres")
        tasks = {"gender": {"kind": "binary", "positive": "F"}, "age": {"kind": "regression"}}
        metrics = ("gender/auc", "age/mae")
    data = {"source": source, "raw": str(raw), "time": "timestamp", "split": split}
    tree = {"data": data, "features": features, "tasks": tasks}
    return DataSet(f"ml-100k {protocol}", tree, metrics, folds, with_ensemble=protocol in ("u1", "cv5"))


def kuairand(raw: Path, *, with_statistics: bool) -> DataSet:
    """KuaiRand-Pure: five feedbacks of a short-video log, cut in time; if asked for, with statistics of past feedbacks
    of users, videos and authors, as the trees have them, and the clicks of the history."""
    split = {"kind": "time", "valid_from": 1651248000000, "test_from": 1651334400000}
    data = {"source": "kuairand", "raw": str(raw), "time": "time_ms", "split": split, "max_bad_share": 0.05}
    users = ["user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"]
    users += [f"onehot_feat{number}" for number in (1, 2, 6, 7, 8)]
    numbers = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"]
    features = _kind("id", "user", "user_id") | _kind("categorical", "user", *users)
    features |= _kind("numeric", "user", *numbers)
    features |= {"history": {"kind": "sequence", "of": "video_id"}} | _kind("id", "item", "video_id")
    features |= _kind("categorical", "item", "author_id", "video_type", "upload_type", "music_type")
    features |= {"tag": {"kind": "multi_categorical", "entity": "item", "separator": ","}}
    features |= _kind("numeric", "item", "video_duration") | _kind("categorical", "context", "tab")
    features |= _kind("numeric", "context", "hourmin")
    columns = {"click": "is_click", "long_view": "long_view", "like": "is_like", "profile_enter": "is_profile_enter"}
    columns |= {"follow": "is_follow"}
    tasks = {name: {"kind": "binary", "column": column} for name, column in columns.items()}
    metrics = (*(f"{name}/auc" for name in tasks), "like/auc/new_user")
    seeds = {f"seed{seed}": {"seed": seed, "data.seed": 0} for seed in range(5)}
    name = "kuairand"
    if with_statistics:
        name = "kuairand with statistics"
        features["history"]["values"] = "is_click"
        keys: Tree = {"user": {"entity": "user"}, "item": {"entity": "item"}}
        keys["author"] = {"entity": "item", "column": "author_id"}
        for key, of in itertools.product(keys, columns):
            features[f"{key}_{of}"] = {"kind": "statistic", "of": columns[of], **keys[key]}
    return DataSet(name, {"data": data, "features": features, "tasks": tasks}, metrics, seeds)


def adult(raw: Path, folder: Path) -> DataSet:
    """Adult: income, and whether someone has never married, of people without any log."""
    people = pd.read_parquet(raw / "data.parquet")
    people.columns = [name.replace("-", "_") for name in people.columns]
    people["person"], people["offer"] = np.arange(len(people)), 0
    people["fold"] = np.random.default_rng(0).integers(0, 5, len(people))
    people.to_parquet(folder / "adult.parquet")
    words = [name for name in people.columns if name not in ("income", "person", "offer", "fold")]
    numbers = [name for name in words if pd.api.types.is_numeric_dtype(people[name])]
    features = {"person": {"kind": "id", "entity": "user", "embed": False}}
    features |= {"offer": {"kind": "id", "entity": "item", "embed": False}} | _kind("numeric", "user", *numbers)
    features |= _kind("categorical", "user", *(name for name in words if name not in numbers))
    never = {"kind": "binary", "column": "marital_status", "positive": "Never-married", "masked_input": 0.3}
    tasks = {"income": {"kind": "binary", "positive": ">50K"}, "never": never}
    tree = {"data": _table(folder / "adult.parquet"), "features": features, "tasks": tasks}
    return DataSet("adult", tree, ("income/auc", "never/auc"), _folds())


def clothing(raw: Path, folder: Path) -> DataSet:
    """Women's clothing reviews: rating, recommendation and age of new articles from their texts."""
    reviews = pd.read_parquet(raw / "data.parquet")
    reviews.columns = [name.lower().replace(" ", "_") for name in reviews.columns]
    reviews["review"] = np.arange(len(reviews))
    articles = reviews.clothing_id.unique()
    fold = dict(zip(articles, np.random.default_rng(0).integers(0, 5, len(articles)), strict=True))
    reviews["fold"] = reviews.clothing_id.map(fold)
    reviews.to_parquet(folder / "clothing.parquet")
    features: Tree = {"review": {"kind": "id", "entity": "user", "embed": False}}
    features |= _kind("id", "item", "clothing_id") | {
        "title": {"kind": "text"},
        "review_text": {"kind": "text", "max_length": 100},
    }
    features |= _kind("categorical", "item", "division_name", "department_name", "class_name")
    tasks: Tree = {"rating": {"kind": "regression", "range": [1, 5]}, "age": {"kind": "regression"}}
    tasks["recommended"] = {"kind": "binary", "column": "recommended_ind"}
    tree = {"data": _table(folder / "clothing.parquet"), "features": features, "tasks": tasks}
    return DataSet("womens-clothing", tree, ("rating/rmse", "recommended/auc", "age/mae"), _folds())


def amazon(raw: Path, column: str) -> DataSet:
    """Amazon ratings: random rows, new users or new items."""
    source = {"kind": "table", "interactions": str(raw / "log.parquet"), "items": str(raw / "items.parquet")}
    lists = {"kind": "sequence", "values": "rating", "known": "all", "max_length": 200}
    features = _kind("id", "user", "user_id") | {"history": {**lists, "of": "item_id"}}
    features |= _kind("id", "item", "item_id") | {"audience": {**lists, "of": "user_id", "entity": "item"}}
    features |= _kind("multi_categorical", "item", "category") | _kind("categorical", "item", "place")
    data = {"source": source, "time": "t", "split": {**PREDEFINED, "column": column}}
    tasks = {"rating": {"kind": "regression", "range": [1, 5]}}
    seeds = {f"seed{seed}": {"seed": seed} for seed in range(5)}
    tree = {"data": data, "features": features, "tasks": tasks}
    return DataSet(f"amazon {column}", tree, ("rating/rmse",), seeds)


def shop(scripts: Path, folder: Path) -> DataSet:
    """A shop's log, generated and pivoted by two scripts beside the data: purchases and carts, cut in time."""
    place = folder / "shop"
    place.mkdir(exist_ok=True)
    for script in ("make.py", "pivot.py"):
        command = [sys.executable, str(scripts / script)]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    names = {"interactions": "log.csv", "users": "users.csv", "items": "items.csv"}
    source = {"kind": "table", **{table: str(place / name) for table, name in names.items()}}
    features = _kind("id", "user", "user_id") | _kind("numeric", "user", "age", "signup")
    features |= _kind("categorical", "user", "country", "gender") | {
        "history": {"kind": "sequence", "of": "product_id"}
    }
    features |= _kind("id", "item", "product_id") | _kind("categorical", "item", "category", "brand")
    features |= _kind("numeric", "item", "price", "created") | _kind("text", "item", "title")
    features |= _kind("categorical", "context", "device")
    tasks = {"purchase": {"kind": "binary"}, "cart": {"kind": "binary"}}
    segments = ("", "/warm", "/new_user", "/new_item")
    metrics = (*(f"purchase/log_loss{segment}" for segment in segments), "purchase/auc", "cart/auc")
    data = {"source": source, "time": "timestamp", "split": "time"}
    seeds = {f"seed{seed}": {"seed": seed, "data.seed": 0} for seed in range(5)}
    return DataSet("shop", {"data": data, "features": features, "tasks": tasks}, metrics, seeds)


def generated(rows: int, signal: float) -> DataSet:
    """A generated log, whose content explains none, half or all of what new users and items like."""
    users, items = max(400, rows // 50), max(200, rows // 100)
    source = {"kind": "synthetic", "num_users": users, "num_items": items, "num_interactions": rows}
    split = {"kind": "cold", "valid_users": 0.0, "valid_items": 0.0, "test_users": 0.2, "test_items": 0.2}
    data = {"source": {**source, "content_signal": signal}, "time": "timestamp", "split": split}
    features = _kind("id", "user", "user_id") | _kind("numeric", "user", "age")
    features |= _kind("categorical", "user", "gender", "occupation", "country") | _kind("id", "item", "item_id")
    features |= _kind("categorical", "item", "category") | _kind("multi_categorical", "item", "tags")
    features |= _kind("numeric", "item", "price")
    tasks = {"rating": {"kind": "regression"}, "click": {"kind": "binary"}}
    metrics = tuple(f"rating/rmse/{segment}" for segment in ("new_user", "new_item", "new_both"))
    tree = {"data": data, "features": features, "tasks": tasks}
    return DataSet(f"generated {rows:,} rows, signal {signal:g}", tree, metrics, {"seed0": {}})


def _table(file: Path) -> Tree:
    split = {**PREDEFINED, "column": "fold", "train": [1, 2, 3, 4], "test": [0]}
    return {"source": {"kind": "table", "interactions": str(file)}, "split": split}


def _folds() -> dict[str, Tree]:
    return {
        f"fold{test}": {
            "data.split.train": [fold for fold in range(5) if fold != test],
            "data.split.test": [test],
        }
        for test in range(5)
    }


PROTOCOLS = (
    *("u1", "cv5", "cold_user", "cold_user_k5", "cold_user_k10"),
    *("cold_item", "cold_item_k10", "cold_both", "profile"),
)


def data_sets(root: Path, folder: Path, *, quick: bool) -> dict[str, Callable[[], DataSet]]:
    """Return what makes each data set, by name.

    Args:
        root: folder of the real data sets.
        folder: receives files that are made of them.
        quick: only what takes some minutes.
    """
    found: dict[str, Callable[[], DataSet]] = {}
    for protocol in ("u1", "cold_item", "profile") if quick else PROTOCOLS:
        found[f"ml-100k {protocol}"] = lambda protocol=protocol: movielens(root / "ml-100k", protocol)
    feedbacks = root / "kuairand-pure-subset"
    found["kuairand"] = lambda: kuairand(feedbacks, with_statistics=False)
    found["kuairand with statistics"] = lambda: kuairand(feedbacks, with_statistics=True)
    found["adult"] = lambda: adult(root / "adult", folder)
    found["womens-clothing"] = lambda: clothing(root / "womens-clothing", folder)
    for column in ("random",) if quick else ("random", "cold_user", "cold_item"):
        found[f"amazon {column}"] = lambda column=column: amazon(root / "amazon", column)
    found["shop"] = lambda: shop(root.parent / "cases/shop", folder)
    for rows in (20_000,) if quick else (20_000, 200_000, 2_000_000, 20_000_000):
        for signal in (0.0, 0.5, 1.0):
            found[f"generated {rows:,} rows, signal {signal:g}"] = lambda r=rows, s=signal: generated(r, s)
    return found
