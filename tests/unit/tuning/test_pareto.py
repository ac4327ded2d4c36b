"""Trade-offs between objectives, against definitions and hand-computed values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtl_ray.tuning.pareto import delta_m, knee, pareto_front

POINTS = arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 5).map(float))


def dominates(a, b, higher) -> bool:
    signed = [(x - y) * (1 if up else -1) for x, y, up in zip(a, b, higher, strict=True)]
    return min(signed) >= 0 and max(signed) > 0


@given(POINTS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_the_front_is_what_no_point_dominates(points, higher):
    higher = higher[: points.shape[1]]
    expected = [i for i, p in enumerate(points) if not any(dominates(q, p, higher) for q in points)]
    assert pareto_front(points, higher) == expected
    assert expected


def test_the_knee_is_below_the_line_between_the_extremes():
    front = [[0.0, 10.0], [0.2, 3.0], [0.5, 2.5], [1.0, 0.0]]
    assert knee(front, [False, False]) == 1
    assert knee(np.negative(front), [True, True]) == 1
    assert knee([[3.0], [1.0], [2.0]], [False]) == 1
    assert knee([[1.0, 1.0]], [False, True]) == 0


def test_delta_m_is_the_mean_relative_gain():
    """Maninis et al. 2019: 10 % less error and 5 % less AUC make 2.5 %."""
    assert delta_m([0.9, 0.76], [1.0, 0.8], [False, True]) == pytest.approx(0.025)
    assert delta_m([1.1], [1.0], [False]) == pytest.approx(-0.1)
    assert delta_m([0.8, 0.8], [0.8, 0.8], [True, False]) == 0
