"""Segments: the parts of the evaluation rows that metrics are reported for."""

from mtl_ray.config.base import Section


class Segment(Section):
    """A part of the evaluation rows, chosen by the number of training interactions of their user and item."""

    name: str
    users: tuple[int, int | None] | None = None
    """Range of interactions of the user: at least the first number, less than the second (None: no limit). None means
    any user."""
    items: tuple[int, int | None] | None = None


SEGMENTS = ("all", "warm", "new_user", "new_item", "new_both")
"""Segments that reports show: all rows, and rows by whether the user and the item are in the training rows."""


def segments(support_ranges: tuple[int, ...]) -> list[Segment]:
    """Return the segments that metrics are reported for: `warm`, `new_user`, `new_item`, `new_both`, support ranges.

    Args:
        support_ranges: lower ends of the ranges of training interactions; (1, 5) gives 0, 1-4 and 5+.
    """
    known, new = (1, None), (0, 1)
    named = [
        Segment(name="warm", users=known, items=known),
        Segment(name="new_user", users=new, items=known),
        Segment(name="new_item", users=known, items=new),
        Segment(name="new_both", users=new, items=new),
    ]
    lower = (0, *support_ranges)
    for low, high in zip(lower, (*support_ranges, None), strict=True):
        label = f"{low}+" if high is None else str(low) if high - low == 1 else f"{low}-{high - 1}"
        named.append(Segment(name=f"user_support_{label}", users=(low, high)))
        named.append(Segment(name=f"item_support_{label}", items=(low, high)))
    return named
