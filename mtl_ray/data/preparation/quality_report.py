"""The counts of `quality.json`, and the refusal of a log with too many bad rows."""

from collections import Counter
from typing import Any

import numpy as np

from mtl_ray.config import Experiment
from mtl_ray.data.preparation.fit import FitStatistics, advice
from mtl_ray.data.preparation.lost_cells import added
from mtl_ray.data.preparation.repeats import REASONS
from mtl_ray.errors import InputError
from mtl_ray.schema import SPLITS
from mtl_ray.storage import Folder
from mtl_ray.values.partition import NONE, SHOWN


def count_staged(experiment: Experiment, pieces: list[dict[str, Any]], aside: Folder, target: Folder) -> dict[str, Any]:
    """Add up the counts of the staged pieces. Raises InputError if the log is empty or too much of it is bad."""
    reasons: Counter[str] = Counter()
    for piece in pieces:
        reasons.update(piece["reasons"])
    staged = {
        "rows": sum(piece["rows"] for piece in pieces),
        "bad": sum(reasons.values()),
        "reasons": dict(reasons),
        "examples": [e for piece in pieces for e in piece["examples"]][:5],
        "lost": added(piece["lost"] for piece in pieces),
    }
    if not staged["rows"]:
        raise InputError("the log is empty: expected at least one row of interactions")
    refuse_bad(experiment, {"rows": staged["rows"], **staged}, aside, target)
    return staged


def refuse_bad(experiment: Experiment, quality: dict[str, Any], aside: Folder, target: Folder) -> None:
    """Raise InputError if more rows are bad than `data.max_bad_share` allows. The quarantine is kept.

    Repeats are set aside because a setting says so; they do not count as bad here.
    """
    counts = {why: count for why, count in quality["reasons"].items() if why not in REASONS.values()}
    bad, rows = sum(counts.values()), quality["rows"]
    if bad <= experiment.data.max_bad_share * rows and bad < rows:
        return
    rejected = target.suffixed(".rejected")
    rejected.delete()
    (aside / "quarantine").rename(rejected)
    reasons = ", ".join(f"{count:,} x {reason}" for reason, count in counts.items())
    raise InputError(
        f"{bad:,} of {rows:,} rows are bad ({bad / rows:.1%}; data.max_bad_share allows "
        f"{experiment.data.max_bad_share:.1%}): {reasons}; first: {'; '.join(quality['examples'][:3])}; "
        f"all are in {rejected}"
    )


def quality_report(
    experiment: Experiment, staged: dict[str, Any], total: FitStatistics, mended: dict[str, int]
) -> dict[str, Any]:
    """Return the content of `quality.json`."""
    rows = np.stack(total.num_rows).sum(0)
    reasons = dict(staged["reasons"])
    if total.num_duplicates:
        reasons[REASONS[experiment.data.repeats]] = total.num_duplicates
    splits = {split: int(rows[code]) for code, split in enumerate(SPLITS)}
    return {
        "rows": staged["rows"],
        "bad": sum(reasons.values()),
        "reasons": reasons,
        **({"events": staged["events"]} if staged.get("events") else {}),
        "repeats": experiment.data.repeats,
        "examples": staged["examples"] + total.duplicates,
        "splits": splits,
        "in_no_split": int(rows[NONE]),
        "shown_in_histories": int(rows[SHOWN]),
        "mended": mended,
        "lost": {path: {**lost._asdict(), "examples": [*lost.examples]} for path, lost in staged["lost"].items()},
        "unmapped": total.declared.unmapped(experiment),
        "unknown_entities": dict(total.issues),
        "constant": total.constant,
        "advice": advice(experiment, total),
        "label_share": {
            task: {s: round(total.labels[task, s] / max(1, splits[s]), 6) for s in SPLITS} for task in experiment.tasks
        },
    }
