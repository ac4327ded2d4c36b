"""An encoded data set that `prepare` made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtl_ray.errors import InputError
from mtl_ray.reporting.results import Shown, metrics_frame
from mtl_ray.schema import SPLITS, Schema
from mtl_ray.storage import Folder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Prepared(Shown):
    """A finished data set.

    Example:
        >>> trained.prepared.metrics["test/click/label_share"]
        1.0
    """

    folder: Folder
    schema: Schema
    quality: dict[str, Any]
    reused: bool
    """True if it was there already."""

    @property
    def metrics(self) -> dict[str, float]:
        """Labelled rows `split/task/count` and their share `split/task/label_share` of the rows of the split."""
        labels = {task: fitted.num_labels for task, fitted in self.schema.tasks.items()}
        counts = {f"{s}/{task}/count": float(n) for task, by_split in labels.items() for s, n in by_split.items()}
        shares = {
            f"{split}/{task}/label_share": share
            for task, by_split in self.quality["label_share"].items()
            for split, share in by_split.items()
        }
        return counts | shares

    def to_frame(self) -> "pd.DataFrame":
        """Return `metrics` as a tidy frame, see `metrics_frame`."""
        return metrics_frame(self.metrics)

    def table(self) -> Table:
        """Return rows and labels by split as a table."""
        tasks, metrics = list(self.schema.tasks), self.metrics
        table = Table(title=f"{self.folder.name}: rows, and those with a label of each task")
        for name in ("split", "rows", *tasks):
            table.add_column(name, justify="left" if name == "split" else "right")
        for split in SPLITS:
            labelled = (metrics.get(f"{split}/{task}/count") for task in tasks)
            cells = ("-" if count is None else f"{count:,.0f}" for count in labelled)
            table.add_row(split, f"{self.schema.num_rows[split]:,}", *cells)
        return table

    def lines(self) -> Iterator[str]:
        """Yield what was read, what of it is bad, and where the data set is."""
        quality = self.quality
        if events := quality.get("events"):
            yield f"events: {events['rows']:,} read, {events['bad']:,} set aside"
            yield from (f"  {count:,} x {reason}" for reason, count in events["reasons"].items())
        yield f"rows: {quality['rows']:,} read, {quality['bad']:,} bad, splits {quality['splits']}"
        yield from (f"  {count:,} x {reason}" for reason, count in quality["reasons"].items())
        yield f"data set: {self.folder}"


def open_prepared(location: str) -> Prepared:
    """Open a data set made earlier. Raises InputError if `location` is not one, or a file of it is damaged."""
    folder = Folder(location)
    if not folder.exists("schema.json"):
        raise InputError(f"{location}: expected a prepared data set (a folder with schema.json); run `mtl-ray prepare`")
    return Prepared(folder, folder.read_model("schema.json", Schema), folder.read_json("quality.json"), reused=True)
