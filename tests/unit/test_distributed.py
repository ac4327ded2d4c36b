from pathlib import Path

import torch

from mtl_ray.distributed import gather_each, gather_rows, gather_rows_with_gradient, rank, sum_over_ranks, world_size
from tests.workers import run_workers

DTYPES = (torch.float64, torch.int64, torch.int8, torch.bool)
SIZES = ([3, 1], [0, 2], [0, 0])
"""Rows of each rank."""


def rows_of(number: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.arange(size * 2).reshape(size, 2) + 10 * number).to(dtype)


def collect(number: int, size: int):
    assert (rank(), world_size()) == (number, size)
    value = torch.tensor([1.0 + number], requires_grad=True)
    total = sum_over_ranks(value)
    gathered = [gather_rows(rows_of(number, sizes[number], dtype)) for sizes in SIZES for dtype in DTYPES]
    for dtype in DTYPES:
        each = [rows_of(number, sizes[number], dtype) for sizes in SIZES]
        each += [tensor[:, 0] for tensor in each]
        assert all(map(torch.equal, gather_each(each), map(gather_rows, each)))
    return total, total.requires_grad, value.detach(), gathered


def differentiate(number: int, size: int):
    """Gradient of sum_r (r + 1) sum(w * all rows), with respect to this rank's rows."""
    gradients = []
    for sizes in SIZES:
        own = rows_of(number, sizes[number], torch.float64).requires_grad_()
        rows = gather_rows_with_gradient(own)
        weights = torch.arange(rows.numel(), dtype=torch.float64).reshape(2, -1).T
        ((number + 1) * (weights * rows).sum()).backward()
        gradients.append(own.grad)
    return gradients


def test_a_row_gets_its_gradient_from_all_ranks(tmp_path: Path):
    for number, gradients in enumerate(run_workers(2, differentiate)):
        for sizes, gradient in zip(SIZES, gradients, strict=True):
            weights = torch.arange(2 * sum(sizes), dtype=torch.float64).reshape(2, -1).T
            assert torch.equal(gradient, 3 * weights.split(sizes)[number])


def test_one_process_gets_its_own():
    value = torch.ones(2, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert torch.equal(sum_over_ranks(value), value)
    assert not sum_over_ranks(value).requires_grad
    assert gather_rows(value) is value
    assert gather_each([value, value]) == [value, value]
    assert gather_rows_with_gradient(value) is value


def test_every_rank_gets_the_sum_and_all_rows(tmp_path: Path):
    results = run_workers(2, collect)
    for number, (total, has_gradient, own, gathered) in enumerate(results):
        assert (total.item(), has_gradient, own.item()) == (3, False, 1 + number)
        cases = [(sizes, dtype) for sizes in SIZES for dtype in DTYPES]
        for (sizes, dtype), found in zip(cases, gathered, strict=True):
            expected = torch.cat([rows_of(n, size, dtype) for n, size in enumerate(sizes)])
            assert found.dtype == dtype
            assert torch.equal(found, expected)
