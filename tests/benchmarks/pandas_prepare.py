"""What `prepare` does for one experiment, written by hand for a log that fits in memory: what it is compared with.

`python pandas_prepare.py RAW OUTPUT VALID_FROM TEST_FROM` prints the seconds that it took.
"""

# pandas does not say what its columns are.
# pyright: reportAttributeAccessIssue=false

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

NULL, UNKNOWN, FIRST = 1, 2, 3
LENGTH = 20
CATEGORIES = ("user_id", "item_id", "gender", "occupation", "category")
NUMBERS = ("age", "price")
LABELS = ("click", "rating", "purchase")


def vocabulary(values: pd.Series) -> pd.Series:
    """Embedding row and count by value, the most frequent first."""
    counts = values.value_counts().rename_axis("value").reset_index(name="count")
    counts = counts.sort_values(["count", "value"], ascending=[False, True], ignore_index=True)
    return pd.Series(np.arange(FIRST, FIRST + len(counts), dtype=np.int32), index=counts["value"])


def encoded(values: pd.Series, known: pd.Series) -> np.ndarray:
    rows = values.map(known).fillna(UNKNOWN).astype(np.int32)
    return rows.mask(values.isna(), NULL).to_numpy()


def main(raw: Path, output: Path, valid_from: float, test_from: float) -> None:
    log = pd.read_parquet(raw / "log")
    users, items = pd.read_parquet(raw / "users.parquet"), pd.read_parquet(raw / "items.parquet")

    # Validate: keys and time are there, numbers are finite, flags are 0 or 1, nothing is twice.
    bad = log[["user_id", "item_id", "timestamp"]].isna().any(axis=1) | np.isinf(log["rating"])
    for flag in ("click", "purchase"):
        bad |= ~(log[flag].isin([0, 1]) | log[flag].isna())
    log = log[~bad].sort_values("timestamp", kind="stable", ignore_index=True)
    log = log.drop_duplicates(["user_id", "item_id", "timestamp"], ignore_index=True)

    log = log.merge(users, on="user_id", how="left").merge(items, on="item_id", how="left")
    when = log["timestamp"].to_numpy()
    split = np.where(when >= test_from, 2, np.where(when >= valid_from, 1, 0))
    train = log[split == 0]

    columns = {}
    words = {name: vocabulary(train[name]) for name in CATEGORIES}
    for name in CATEGORIES:
        columns[name] = encoded(log[name], words[name])
    for name in NUMBERS:
        mean, std = train[name].mean(), train[name].std(ddof=0)
        columns[name] = ((log[name] - mean) / std).to_numpy(np.float32)
    for name, key in (("user_support", "user_id"), ("item_support", "item_id")):
        columns[name] = log[key].map(train[key].value_counts()).fillna(0).to_numpy(np.int32)
    for name in LABELS:
        columns[f"{name}.label"] = log[name].to_numpy(np.float32, na_value=np.nan)
    columns["purchase.label"][~(log["click"] == 1).to_numpy()] = np.nan

    # The last items of the user that are strictly earlier.
    user = pd.factorize(log["user_id"])[0]
    order = np.argsort(user, kind="stable")
    user, at, item = user[order], when[order], columns["item_id"][order]
    place = np.arange(len(order))
    begins = np.append(True, user[1:] != user[:-1])
    begin = np.maximum.accumulate(np.where(begins, place, 0))
    moves = begins | np.append(True, at[1:] != at[:-1])
    end = np.maximum.accumulate(np.where(moves, place, 0))
    begin = np.maximum(begin, end - LENGTH)
    entries = begin[:, None] + np.arange(LENGTH)
    history = np.empty((len(order), LENGTH), np.int32)
    history[order] = np.where(entries < end[:, None], item[np.minimum(entries, len(order) - 1)], 0)

    rng = np.random.default_rng(0)
    for code, name in enumerate(("train", "valid", "test")):
        rows = np.flatnonzero(split == code)
        if code == 0:
            rng.shuffle(rows)
        part = pd.DataFrame({key: value[rows] for key, value in columns.items()})
        part["history"] = list(history[rows])
        part.to_parquet(output / f"{name}.parquet", compression="zstd")


if __name__ == "__main__":
    began = time.perf_counter()
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    print(time.perf_counter() - began)
