"""References to measure the model by: a constant, biases, gradient boosted trees, a factorisation machine.

Each reads the rows that the model reads, as `prepare` encoded them, and returns predictions of the test rows.
"""

import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch

from mtl_ray.config import Experiment
from mtl_ray.data.loader import Batch, Shard, read_directly
from mtl_ray.schema import ROW, SplitName, label_column
from mtl_ray.training.single_process import Training

SWEEPS, SHRINKAGE = 10, 5.0
"""Alternating sweeps over the biases of users and items, and labels at 0 that each starts from."""
TREES = {"n_estimators": 300, "learning_rate": 0.05, "num_leaves": 31, "min_child_samples": 20, "n_jobs": 1}
FOLDS, PRIOR = 5, 20.0
"""Out-of-fold parts of target statistics, and labels at the mean that each starts from."""
FM = {"rank": 8, "iterations": 200}


def rows_of(training: Training, split: SplitName) -> Batch:
    """Return all encoded rows of a split, in their order."""
    prepared = training.prepared
    shard = Shard(prepared.folder, prepared.schema, split, 0, 1, 1 << 40, read_directly)
    parts = list(shard.evaluation_batches(1 << 30))
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = torch.argsort(whole[ROW])
    return {name: column[order] for name, column in whole.items()}


def biases(experiment: Experiment, task: str, train: Batch, test: Batch) -> np.ndarray:
    """Return the mean label plus shrunken biases of the user and the item, fitted in turns."""
    keys, label = (experiment.user, experiment.item), train[label_column(task)].double().numpy()
    known = ~np.isnan(label)
    codes = [train[key].numpy()[known] for key in keys]
    mean, label = label[known].mean(), label[known]
    found = [np.zeros(int(max(code.max(), test[key].max())) + 1) for code, key in zip(codes, keys, strict=True)]
    for _ in range(SWEEPS):
        for own, other in ((0, 1), (1, 0)):
            rest = label - mean - found[other][codes[other]]
            totals = np.bincount(codes[own], rest, len(found[own]))
            found[own] = totals / (np.bincount(codes[own], minlength=len(found[own])) + SHRINKAGE)
    for bias in found:
        bias[:3] = 0  # no value, or one that was not seen
    return mean + sum(bias[test[key].numpy()] for bias, key in zip(found, keys, strict=True))


def trees(experiment: Experiment, task: str, train: Batch, test: Batch, seed: int) -> np.ndarray:
    """Return the predictions of LightGBM on attributes, target statistics, sizes of lists, and words by tf-idf."""
    import lightgbm  # of the extra `bench`
    from sklearn.feature_extraction.text import TfidfTransformer

    spec, label = experiment.tasks[task], train[label_column(task)].double().numpy()
    known = ~np.isnan(label)
    hidden = set(experiment.inputs_of(task))
    dense: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    words: dict[str, list[sp.csr_matrix]] = {"train": [], "test": []}
    for name, feature in experiment.features.items():
        if name in hidden or (feature.kind == "id" and not feature.is_input):
            continue
        columns = {"train": train[name].numpy(), "test": test[name].numpy()}
        if columns["train"].ndim == 1:
            if feature.kind != "id":
                _append(dense, columns)
            if feature.kind in ("id", "categorical"):
                _append(dense, target_means(columns["train"], label, columns["test"], seed))
            continue
        if columns["train"].dtype.kind == "f":  # a vector, or a count and a mean
            for place in range(columns["train"].shape[1]):
                _append(dense, {split: column[:, place] for split, column in columns.items()})
            continue
        _append(dense, {split: (column > 0).sum(1) for split, column in columns.items()})
        if (values := f"{name}.values") in train:
            sizes = {split: (column > 0).sum(1) for split, column in columns.items()}
            rows = {"train": train, "test": test}
            _append(dense, {split: rows[split][values].numpy().sum(1) / (sizes[split] + 5) for split in sizes})
        if feature.kind in ("text", "multi_categorical"):
            counts = [_counts(columns[split], int(columns["train"].max()) + 1) for split in ("train", "test")]
            weight = TfidfTransformer().fit(counts[0])
            for split, count in zip(words, counts, strict=True):
                words[split].append(weight.transform(count))
    inputs = {split: sp.hstack([sp.csr_matrix(np.stack(dense[split], 1)), *words[split]]).tocsr() for split in dense}
    kind = lightgbm.LGBMClassifier if spec.kind == "binary" else lightgbm.LGBMRegressor
    model = kind(**TREES, random_state=seed, verbose=-1).fit(inputs["train"][known], label[known])
    return model.predict_proba(inputs["test"])[:, 1] if spec.kind == "binary" else model.predict(inputs["test"])


def _append(parts: dict[str, list[np.ndarray]], columns: dict[str, np.ndarray]) -> None:
    for split, column in columns.items():
        parts[split].append(column.astype(np.float32))


PKG_RESOURCES = {"DistributionNotFound": metadata.PackageNotFoundError, "get_distribution": metadata.distribution}


def _counts(lists: np.ndarray, size: int) -> sp.csr_matrix:
    rows, places = np.nonzero((lists > 0) & (lists < size))
    return sp.csr_matrix((np.ones(len(rows)), (rows, lists[rows, places])), (len(lists), size))


def target_means(codes: np.ndarray, label: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the shrunken mean label of each row's value, from the other folds for training rows."""
    known, mean, size = ~np.isnan(label), np.nanmean(label), int(max(codes.max(), test.max())) + 1
    fold, result = np.random.default_rng(seed).integers(0, FOLDS, len(codes)), np.empty(len(codes))

    def means(among: np.ndarray) -> np.ndarray:
        totals = np.bincount(codes[among], label[among], size) + PRIOR * mean
        return totals / (np.bincount(codes[among], minlength=size) + PRIOR)

    for each in range(FOLDS):
        result[fold == each] = means(known & (fold != each))[codes[fold == each]]
    return {"train": result, "test": means(known)[test]}


def factorisation_machine(experiment: Experiment, task: str, train: Batch, test: Batch, seed: int) -> np.ndarray:
    """Return the predictions of a Bayesian factorisation machine over ids, implicit sets and attributes (myfm)."""
    # myfm, of the extra `bench`, asks for its version in a way that newer setuptools have dropped.
    sys.modules.setdefault("pkg_resources", cast(ModuleType, SimpleNamespace(**PKG_RESOURCES)))
    import myfm

    label = train[label_column(task)].double().numpy()
    blocks = {"train": [], "test": []}
    widths = []
    for name, feature in experiment.features.items():
        columns = {"train": train[name].numpy(), "test": test[name].numpy()}
        if columns["train"].dtype.kind == "f":
            block = {split: sp.csr_matrix(np.nan_to_num(column)[:, None]) for split, column in columns.items()}
        else:
            lists = {s: column[:, None] if column.ndim == 1 else column for s, column in columns.items()}
            size = int(lists["train"].max()) + 1
            block = {split: _counts(column, size) for split, column in lists.items()}
            if feature.kind == "sequence":
                block = {split: _divided(counts) for split, counts in block.items()}
        widths.append(block["train"].shape[1])
        for split, parts in blocks.items():
            parts.append(block[split])
    inputs = {split: sp.hstack(parts).tocsr() for split, parts in blocks.items()}
    model = myfm.MyFMRegressor(rank=FM["rank"], random_seed=seed)
    model.fit(inputs["train"], label, n_iter=FM["iterations"], group_shapes=widths)
    return model.predict(inputs["test"])


def _divided(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return the rows divided by the root of their sums, as implicit feedback is in SVD++."""
    sums = np.asarray(counts.sum(1)).ravel()
    return sp.diags(1 / np.sqrt(np.maximum(sums, 1))) @ counts
