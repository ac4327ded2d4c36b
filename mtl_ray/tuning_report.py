"""The report of a search."""

from mtl_ray.page import Page
from mtl_ray.tuning import Tuning


def tuning_report(tuning: Tuning) -> Page:
    """The page of a search."""
    page = Page(f"{tuning.experiment.name}: search")
    page.table(tuning.header(), tuning.rows())
    return page
