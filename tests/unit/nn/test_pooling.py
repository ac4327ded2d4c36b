import pytest
import torch
from torch import nn

from mtl_ray.nn.pooling import MULTI_HOT_ROWS, list_sizes, pooled

LENGTH = 10


@pytest.mark.parametrize("size", [MULTI_HOT_ROWS * LENGTH, MULTI_HOT_ROWS * LENGTH + 1])
@pytest.mark.parametrize("longest", [LENGTH, LENGTH // 4])
def test_all_forms_are_the_sum_over_the_list_and_have_its_gradient(size, longest):
    torch.manual_seed(0)
    table = nn.Embedding(size, 6, padding_idx=0).double()
    rows = torch.randint(0, size, (7, LENGTH), dtype=torch.int32)
    rows[:, longest:] = 0
    rows[3] = 0
    rows[4, 1] = rows[4, 0]  # twice in a list
    values = torch.randn(7, LENGTH, dtype=torch.float64) * (rows != 0)
    total, weighted = pooled(table, rows, values)
    weights = torch.randn(2, 7, 6, dtype=torch.float64)
    (total * weights[0] + weighted * weights[1]).sum().backward()
    found, table.weight.grad = table.weight.grad, None
    vectors = table(rows)
    expected = vectors.sum(1), (vectors * values[..., None]).sum(1)
    (expected[0] * weights[0] + expected[1] * weights[1]).sum().backward()
    torch.testing.assert_close((total, weighted), expected)
    torch.testing.assert_close(found[1:], table.weight.grad[1:])
    assert list_sizes(table, rows)[:, 0].tolist() == (rows != 0).sum(1).tolist()
    assert len(pooled(table, rows)) == 1
