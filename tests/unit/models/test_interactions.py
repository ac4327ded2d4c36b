"""Feature interactions against their formulas."""

import torch

from mtl_ray.config.interactions import DCNv2Config, DLRMDotConfig, FMConfig
from mtl_ray.models.interactions import build_interaction

DIMS = {"a": 3, "b": 3, "c": 3}


def vectors_of(size: int = 4) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(size, 3) for name in DIMS}, torch.randn(size, 2)


def test_the_factorisation_machine_adds_all_pairs():
    vectors, scalars = vectors_of()
    module = build_interaction(FMConfig(), DIMS, 2, set())
    a, b, c = vectors.values()
    found = module(vectors, scalars)
    assert found.shape == (4, module.width) == (4, 14)
    torch.testing.assert_close(found[:, 11:], a * b + a * c + b * c)


def test_cross_layers_multiply_by_the_first_input():
    vectors, scalars = vectors_of()
    module = build_interaction(DCNv2Config(layers=2), DIMS, 2, set())
    start = torch.cat([*vectors.values(), scalars], 1)
    x = start
    for layer in module.layers:
        x = start * (x @ layer.weight.T + layer.bias) + x
    torch.testing.assert_close(module(vectors, scalars), x)


def test_dlrm_gives_the_bottom_vector_and_the_products_of_all_pairs():
    vectors, scalars = vectors_of()
    module = build_interaction(DLRMDotConfig(), DIMS, 2, {"c"})
    bottom = torch.relu(torch.cat([vectors["c"], scalars], 1) @ module.bottom[0].weight.T + module.bottom[0].bias)
    a, b = vectors["a"], vectors["b"]
    products = torch.stack([(bottom * a).sum(1), (bottom * b).sum(1), (a * b).sum(1)], 1)
    found = module(vectors, scalars)
    assert found.shape == (4, module.width)
    torch.testing.assert_close(found, torch.cat([bottom, products], 1))
    without = build_interaction(DLRMDotConfig(), DIMS, 0, set())
    assert without(vectors, scalars[:, :0]).shape == (4, 3)
