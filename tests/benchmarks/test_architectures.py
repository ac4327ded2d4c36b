"""Time of a training step of each architecture over `shared_bottom` with as many parameters in the network, and of
MMoE over one wide MLP of the same multiply-adds: medians of side by side repetitions."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mtl_ray.config import parse
from mtl_ray.config.model import MLPConfig
from mtl_ray.models import MultiTaskModel, build_model
from mtl_ray.models.architectures.experts import Experts
from mtl_ray.schema import FittedFeature, FittedTask, Schema
from tests.support import TREE, architectures

BATCH, ROWS, REPETITIONS = 4096, 1000, 9
TASKS: dict[str, Any] = {name: {"kind": "binary"} for name in ("click", "like", "share", "buy")}
TASKS["buy"]["after"] = "click"
FEATURES = {f"f{i}": {"kind": "categorical", "entity": ("user", "item")[i % 2]} for i in range(8)}
IDS = {name: TREE["features"][name] for name in ("user_id", "item_id")}


def model_of(kind: str, width: int) -> MultiTaskModel:
    settings = {
        "kind": kind,
        "embedding_dim": 16,
        "encoder": {"hidden": [width, width // 2]},
        "tower": {"hidden": [32]},
    }
    tree = {**TREE, "features": IDS | FEATURES, "tasks": TASKS, "model": settings}
    experiment = parse({**tree, "training": {"precision": "float32"}}, "benchmark")
    schema = Schema(
        features={name: FittedFeature(num_embeddings=ROWS) for name in experiment.features},
        tasks={name: FittedTask() for name in TASKS},
        num_rows={"train": BATCH},
        train_offsets=(0, BATCH),
        num_lanes=1,
        fingerprint="f",
        content_hash="c",
    )
    return build_model(experiment, schema)


def network_size(kind: str, width: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in model_of(kind, width).network.parameters())


def of_equal_size(kind: str, size: int) -> MultiTaskModel:
    """The model whose network has about `size` parameters."""
    low, high = 4, 4096
    while high - low > 2:
        middle = (low + high) // 4 * 2
        low, high = (middle, high) if network_size(kind, middle) < size else (low, middle)
    return model_of(kind, low)


def batch_of(model: MultiTaskModel) -> dict[str, Tensor]:
    torch.manual_seed(0)
    names = next(iter(model.inputs.values())).features
    return {name: torch.randint(3, ROWS, (BATCH,), dtype=torch.int32) for name in names} | {
        name: torch.randint(0, 50, (BATCH,), dtype=torch.int32) for name in ("user_support", "item_support")
    }


def training_step(model: MultiTaskModel) -> Callable[[], None]:
    batch, optimizer = batch_of(model), torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        forward = model(batch)
        loss = torch.stack([o.square().mean() for o in forward.logits.values()]).sum()
        (loss if forward.penalty is None else loss + forward.penalty.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def medians(steps: dict[str, Callable[[], None]], repetitions: int = REPETITIONS) -> dict[str, float]:
    """Seconds of each, measured in turn so that what disturbs the machine disturbs all."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(repetitions + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repetition >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def test_time_of_architectures_of_one_size(performance):
    torch.set_num_threads(1)
    size = network_size("shared_bottom", 512)
    models = {kind: of_equal_size(kind, size) for kind in architectures()}
    seconds = medians({kind: training_step(model) for kind, model in models.items()})
    for kind, model in models.items():
        parameters = sum(p.numel() for p in model.network.parameters())
        assert abs(parameters / size - 1) < 0.05, kind
    ratios = {kind: value / seconds["shared_bottom"] for kind, value in seconds.items()}
    note = f"{size:,} parameters; " + ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in ratios.items())
    performance("step with mmoe over shared_bottom of its size", ratios["mmoe"], note=note)


class BatchedExperts(nn.Module):
    """The same experts as products of all at once."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        layers = list(zip(*(expert.layers for expert in experts.experts), strict=True))  # pyright: ignore
        self.weights = nn.ParameterList(torch.stack([m.block[0].weight.detach().T for m in layer]) for layer in layers)
        self.biases = nn.ParameterList(torch.stack([m.block[0].bias.detach() for m in layer]) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(len(self.weights[0]), *x.shape)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = torch.baddbmm(bias[:, None], x, weight).relu()
        return x


def test_a_mixture_of_eight_experts_over_one_wide_network(performance):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    number, width, hidden = 8, 256, (128, 64)
    experts = Experts(number, width, MLPConfig(hidden=hidden))
    # One network with as many multiply-adds: width * a + a * b = number * (width * 128 + 128 * 64), a = 2 b
    target = number * (width * hidden[0] + hidden[0] * hidden[1])
    b = int((-width + (width**2 + 2 * target) ** 0.5) / 2)
    wide = nn.Sequential(nn.Linear(width, 2 * b), nn.ReLU(), nn.Linear(2 * b, b), nn.ReLU())
    x = torch.randn(BATCH, width, requires_grad=True)
    batched = BatchedExperts(experts)
    torch.testing.assert_close(batched(x), torch.stack(experts(x)), rtol=1e-4, atol=1e-5)

    def run(module: Callable[[Tensor], Any]) -> Callable[[], None]:
        def step() -> None:
            outputs = module(x)
            (torch.stack(outputs, 1) if isinstance(outputs, list) else outputs).square().mean().backward()

        return step

    seconds = medians({"wide": run(wide), "loop": run(experts), "batched": run(batched)}, 3 * REPETITIONS)
    note = f"forward and backward of {BATCH} rows; as batched products {seconds['batched'] / seconds['wide']:.2f}"
    ratio = seconds["loop"] / seconds["wide"]
    performance("8 experts over one MLP of their multiply-adds", ratio, bar=1.3, at_least=False, note=note)
