"""Encoders of numbers, against the formulas of their paper."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from mtl_ray.nn.number_encoders import PeriodicNumber, PiecewiseLinearNumber

BORDERS = np.array([0.0, 1.0, 10.0, 100.0])


def encoded(numbers: list[float]) -> torch.Tensor:
    """The input of an encoder: the place of each number, 0 for NaN, and whether it is missing."""
    found = torch.tensor(numbers)
    missing = found.isnan()
    return torch.stack([found.nan_to_num(), missing.to(found.dtype)], 1)


def formula(number: float) -> list[float]:
    """Equation 1 of Gorishniy et al. (2022), with the outer pieces cut at their ends; then the flag."""
    pieces = pairwise(BORDERS.tolist())
    return [min(max((number - low) / (high - low), 0), 1) for low, high in pieces] + [0]


def test_pieces_are_those_of_the_paper():
    encoder = PiecewiseLinearNumber(BORDERS, 4)
    encoder.weight.data = torch.eye(4)
    encoder.bias.data.zero_()
    numbers = [-5.0, 0.0, 0.5, 1.0, 5.5, 10.0, 55.0, 100.0, 1e9]
    expected = torch.tensor([*map(formula, numbers), [0, 0, 0, 1]])
    torch.testing.assert_close(encoder(encoded([*numbers, math.nan])), expected)


def test_a_vector_moves_in_a_line_within_a_piece_and_turns_between_pieces():
    torch.manual_seed(0)
    encoder = PiecewiseLinearNumber(BORDERS, 5)
    a, b, c, d = encoder(encoded([2.0, 5.0, 8.0, 50.0]))
    torch.testing.assert_close(b - a, c - b)
    with pytest.raises(AssertionError):
        torch.testing.assert_close((d - c) / 42, (c - b) / 3)


def test_waves_are_those_of_the_paper():
    torch.manual_seed(0)
    encoder = PeriodicNumber(6, 0.5, 4)
    values = torch.tensor([[0.3, 0.0], [0.0, 1.0]])
    angles = 2 * math.pi * 0.3 * encoder.frequencies
    waves = torch.cat([angles.sin(), angles.cos(), torch.zeros(1)])
    missing = torch.cat([torch.zeros(12), torch.ones(1)])
    expected = torch.relu(torch.stack([encoder.linear(waves), encoder.linear(missing)]))
    torch.testing.assert_close(encoder(values), expected)


def test_initial_frequencies_have_the_deviation_that_is_asked_for():
    torch.manual_seed(0)
    assert PeriodicNumber(100_000, 0.2, 1).frequencies.std().item() == pytest.approx(0.2, rel=0.02)


def test_a_copy_has_the_vectors_of_the_other_layer_at_its_own_borders():
    torch.manual_seed(0)
    other = PiecewiseLinearNumber(BORDERS, 5)
    copy = PiecewiseLinearNumber(np.array([-3.0, 2.0, 40.0]), 5)  # of numbers x that are 2 x + 1 to the other
    copy.copy_from(other, 2.0, 1.0)
    torch.testing.assert_close(copy(encoded([-3.0, 2.0, 40.0, math.nan])), other(encoded([-5.0, 5.0, 81.0, math.nan])))


def test_a_number_that_never_differs_has_a_vector():
    assert PiecewiseLinearNumber(np.array([7.0]), 2)(encoded([7.0, math.nan])).isfinite().all()


def test_a_layer_can_be_built_without_memory():
    with torch.device("meta"):
        assert PiecewiseLinearNumber(BORDERS, 4)(torch.zeros(5, 2)).is_meta
        assert PeriodicNumber(3, 0.1, 4)(torch.zeros(5, 2)).is_meta
