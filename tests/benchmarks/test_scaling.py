"""The model of step times (`scaling_model`) against two workers here, and what it says of many with GPUs.

Plain processes over gloo on loopback, a thread each; then the same through Ray Train; then Ray Data. The rows of
docs/results/scaling.md are what this prints.
"""

import socket
import statistics
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from mtl_ray.cluster.session import connect
from mtl_ray.config import Experiment, override
from mtl_ray.config.training import is_sparse
from mtl_ray.data.loader import Shard
from mtl_ray.data.preparation import parallel
from mtl_ray.data.prepare import prepare
from mtl_ray.models import build_model
from mtl_ray.models.complexity import complexity_of
from mtl_ray.models.sparse import sparse_parameters
from mtl_ray.schema import Schema
from mtl_ray.training.trainer import Trainer
from tests.benchmarks.scaling_model import (
    Network,
    Table,
    Work,
    efficiency,
    line,
    received_bytes,
    step_time,
    useful_workers,
)
from tests.benchmarks.test_sparse_tables import experiment_of, sized, write_states
from tests.benchmarks.trainings import RayTraining, in_turns
from tests.support import small_experiment
from tests.unit.conftest import schema_of
from tests.workers import run_workers

IDS, DIM = ("user_id", "item_id", "occupation", "category"), 32
BATCHES, STEPS, WARM = (1024, 2048, 4096, 8192), 14, 4
COLLECTIVES = ("all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all_single")
RECEIVED = 128
"""Where Linux's tcp_info has the bytes that a socket has received."""
ROWS, TRAINED_ROWS, EPOCHS = 2_000_000, 400_000, 4

GPU_FLOPS, GPU_BANDWIDTH, ACHIEVED, LAUNCHES = 19.5e12, 2.0e12, 0.3, 2e-3
"""Assumed, not measured: an A100 80GB by its data sheet (float32 operations and bytes of memory a second), the share of
both that a step reaches, and seconds of a step in which kernels are launched."""
HOP, NODE_HOP = 15e-6, 100e-6
"""Assumed: seconds of a hop of a collective call between GPUs of different machines, and over TCP."""
NETWORKS = {"10 Gbit/s": 1.25e9, "25 Gbit/s": 3.125e9, "100 Gbit/s": 12.5e9}
DENSE_CALLS, SPARSE_CALLS = 5, 7
"""Collective calls of a step, as they are counted here."""
DENSE_PASSES, SPARSE_PASSES = 8, 14
"""Times that Adam reads or writes a number of a dense table; that lazy Adam does one of a gathered row, with what makes
one gradient a row of all workers'."""


def batch_of(rows: int, size: int, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    ids = {name: torch.randint(3, rows, (size,)) for name in IDS}
    support = {name: torch.ones(size, dtype=torch.int32) for name in ("user_support", "item_support")}
    labels = {"click.label": torch.randint(0, 2, (size,)).float(), "rating.label": torch.randn(size)}
    return ids | support | labels | {"row": torch.arange(size)}


def received() -> int:
    """Bytes that all TCP sockets of this process have received."""
    total = 0
    for path in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=int(path.name)) as each:
                is_tcp = each.family in (socket.AF_INET, socket.AF_INET6) and each.type == socket.SOCK_STREAM
                info = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192) if is_tcp else b""
                each.detach()
        except OSError:  # no socket, or gone meanwhile
            continue
        total += struct.unpack_from("Q", info, RECEIVED)[0] if info else 0
    return total


class Counted:
    """Counts the bytes that are given to collective calls of Python and to DDP's."""

    def __init__(self, trainer: Trainer) -> None:
        self.num_bytes, self.calls = Counter(), Counter()
        for name in COLLECTIVES:
            setattr(dist, name, self._counting(name, getattr(dist, name)))
        if isinstance(trainer.parallel, DistributedDataParallel):
            trainer.parallel.register_comm_hook(None, self._hook)

    def _counting(self, name: str, original: Callable) -> Callable:
        def call(*arguments: Any, **named: Any) -> Any:
            tensors = [a for a in arguments if torch.is_tensor(a)]
            self.calls[name] += 1
            self.num_bytes[name] += tensors[-1].nbytes  # of the gathering ones it is what this worker gives
            return original(*arguments, **named)

        return call

    def _hook(self, _: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        self.calls["ddp"] += 1
        self.num_bytes["ddp"] += bucket.buffer().nbytes
        return allreduce_hook(None, bucket)


def measure(
    rank: int, world_size: int, experiment: Experiment, schema: Schema, batches: tuple[int, ...]
) -> dict[int, dict[str, Any]]:
    """By size of the global batch: medians of a step and of its optimizer part, bytes and calls of a step."""
    trainer, found = Trainer(experiment, schema, torch.device("cpu")), {}
    counted, optimizing = Counted(trainer), [0.0]
    move = trainer.optimizers.step

    def timed(*arguments: Any) -> None:
        start = time.perf_counter()
        move(*arguments)
        optimizing.append(time.perf_counter() - start)

    trainer.optimizers.step = timed  # pyright: ignore
    rows = schema.features["user_id"].num_embeddings
    for size in batches:
        parts = [batch_of(rows, size // world_size, 1000 * step + rank) for step in range(STEPS)]
        seconds = []
        optimizing.clear()
        for step, part in enumerate(parts):
            if step == WARM:
                write_states(trainer)
                counted.num_bytes.clear(), counted.calls.clear()
                before = received()
            if world_size > 1:
                dist.barrier()
            start = time.perf_counter()
            trainer.step(part)
            seconds.append(time.perf_counter() - start)
        steps = STEPS - WARM
        found[size] = {
            "seconds": statistics.median(seconds[WARM:]),
            "optimizer": statistics.median(optimizing[WARM:]),
            "bytes": {name: total / steps for name, total in counted.num_bytes.items()},
            "calls": sum(counted.calls.values()) / steps,
            "received": (received() - before) / steps,
        }
    return found


def loopback(rank: int, world_size: int) -> Network:
    """Latency and bandwidth of a sum over two workers here, which send and receive each byte once."""
    points = []
    for size in (1 << 10, 1 << 16, 1 << 20, 1 << 22, 1 << 24):
        numbers, seconds = torch.ones(size // 4), []
        for _ in range(12):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(numbers)
            seconds.append(time.perf_counter() - start)
        points.append((float(size), statistics.median(seconds[2:])))
    latency, slope = line(points)
    return Network(1 / slope, latency)


def work_of(trainer: Trainer, one: dict[int, dict[str, Any]], calls: float) -> Work:
    """The costs of a step from those of one worker at several sizes of the batch."""
    sparse, masking = sparse_parameters(trainer.model), trainer.experiment.training.masking
    hidden = {"user_id": masking.user.new, "item_id": masking.item.new}  # these read one row, the unknown one
    read = {name: 1 - hidden.get(name.split(".")[-2], 0) for name in sparse}
    tables = tuple(Table(len(p), p.shape[1], read[name]) for name, p in sparse.items())
    dense = sum(p.nbytes for name, p in trainer.model.named_parameters() if name not in sparse and p.requires_grad)
    step, row = line([(float(size), m["seconds"] - m["optimizer"]) for size, m in one.items()])
    touched = {size: sum(table.touched(size) for table in tables) for size in one}
    points = [(touched[size], m["optimizer"]) for size, m in one.items()]
    fixed, moved = line(points) if tables else (statistics.median(t for _, t in points), 0.0)
    return Work(step, row, fixed, moved, dense, calls, tables)


def cases() -> Iterator[tuple[str, Experiment, Schema]]:
    for name, rows, sparse in (
        ("4 tables of 10,000 x 32, dense", 10_000, False),
        ("4 tables of 100,000 x 32, dense", 100_000, False),
        ("4 tables of 1,000,000 x 32, row-sparse", 1_000_000, True),
    ):
        experiment = experiment_of("lazy_adam")
        if not sparse:
            experiment = override(experiment, {"training.sparse_tables": None})
        yield name, experiment, sized(schema_of(experiment), rows)


def test_two_workers_take_as_long_as_the_model_says(tmp_path: Path):
    (network, _) = run_workers(2, loopback)
    print(f"\nloopback: {network.bandwidth / 1e9:.2f} GB/s, {network.latency * 1e6:.0f} us a call")
    print(
        "| tables | batch | 1 worker, ms | 2 workers: measured, ms | model, ms | of it exchange | rows/s of 2 over 1 |"
    )
    print("|---|---|---|---|---|---|---|")
    ratios, notes, works = [], [], {}
    for name, experiment, schema in cases():
        (one,) = run_workers(1, measure, experiment, schema, BATCHES)
        two, _ = run_workers(2, measure, experiment, schema, BATCHES[1:])
        trainer = Trainer(experiment, schema, torch.device("cpu"))
        work = work_of(trainer, one, two[4096]["calls"])
        for size, measured in two.items():
            model = step_time(work, network, size, 2)
            times = (one[size]["seconds"], measured["seconds"], model.seconds)
            ratios.append(model.seconds / measured["seconds"])
            shown = " | ".join(f"{1000 * seconds:.1f}" for seconds in times)
            share = model.exchange / model.seconds
            print(f"| {name} | {size} | {shown} | {share:.0%} | {times[0] / times[1]:.2f} |")
            dense, sparse = received_bytes(work, size, 2)
            given = measured["bytes"]
            assert given["ddp"] == work.dense_bytes
            gathered = sum(given.values()) - given["ddp"] - given.get("all_reduce", 0)
            notes.append((name, size, dense, sparse, gathered, measured["received"], measured["calls"]))
            if sparse:
                assert abs(gathered / sparse - 1) < 0.03
            assert abs(measured["received"] / (dense + sparse) - 1) < 0.1
        costs = (1000 * work.step_seconds, 1e6 * work.row_seconds, 1000 * work.optimizer_seconds)
        print("  c0 {:.2f} ms, c1 {:.2f} us a row, o0 {:.2f} ms, ".format(*costs), end="")
        print(f"o1 {1e6 * work.touched_seconds:.2f} us a touched row")
        works[name] = work
    print("\n| tables | batch | dense, bytes | rows of sparse tables, bytes | counted | received by sockets | calls |")
    print("|---|---|---|---|---|---|---|")
    for name, size, dense, sparse, gathered, wire, calls in notes:
        print(f"| {name} | {size} | {dense:,.0f} | {sparse:,.0f} | {gathered:,.0f} | {wire:,.0f} | {calls:.0f} |")
    print_nodes(works)
    assert 0.6 < statistics.median(ratios) < 1.6


def print_nodes(works: dict[str, Work]) -> None:
    """What the measured work is predicted to be worth on machines like this one, a worker of one thread on each."""
    print(
        "\n| tables | Gbit/s | rows/s on 1, 2, 4, 8, 16, 64 nodes, batch 8,192 | 8,192 rows a worker | useful nodes |"
    )
    print("|---|---|---|---|---|")
    for name, work in works.items():
        for gigabits in (1, 10, 25):
            network = Network(gigabits / 8 * 1e9, NODE_HOP)
            cells = []
            for growing in (False, True):
                batches = {n: 8192 * (n if growing else 1) for n in (1, 2, 4, 8, 16, 64)}
                rates = (batch / step_time(work, network, batch, n).seconds for n, batch in batches.items())
                cells.append(", ".join(f"{rate / 1000:,.0f}k" for rate in rates))
            print(f"| {name} | {gigabits} | {' | '.join(cells)} | {useful_workers(work, network, 8192)} |")


def folder(place: Path, name: str) -> Path:
    (place / name).mkdir()
    return place / name


def on_gpus(experiment: Experiment, schema: Schema) -> Work:
    """The step of a worker with a GPU, from the model's size and the assumptions above."""
    with torch.device("meta"):
        model = build_model(experiment, schema)
    rows = schema.features["user_id"].num_embeddings
    madds = complexity_of(experiment, sized(schema, 1000)).multiply_adds
    others = 4 * sum(p.numel() for p in model.parameters()) - len(IDS) * rows * DIM * 4
    memory = GPU_BANDWIDTH * ACHIEVED
    row = 6 * madds / (GPU_FLOPS * ACHIEVED) + len(IDS) * 4 * DIM * 4 / memory
    if not is_sparse(rows, experiment.training.sparse_rows):
        dense = others + len(IDS) * rows * DIM * 4
        return Work(LAUNCHES, row, DENSE_PASSES * dense / memory, 0.0, dense, DENSE_CALLS)
    tables = tuple(Table(rows, DIM) for _ in IDS)
    return Work(
        LAUNCHES, row, DENSE_PASSES * others / memory, SPARSE_PASSES * DIM * 4 / memory, others, SPARSE_CALLS, tables
    )


def test_predictions_for_gpus():
    sparse_by_kind = {"dense": None, "row-sparse": {"rows": 100}}
    for rows_of_worker in (4096, 65_536):
        print(f"\n{rows_of_worker:,} rows of the batch a worker, 8, 64 and 256 workers")
        print(f"| tables (4 x 32) | GB a step | {' | '.join(NETWORKS)} | million rows/s at 100 Gbit/s | limit |")
        print("|---|---|" + "---|" * (len(NETWORKS) + 2))
        for rows in (10_000, 100_000, 1_000_000, 10_000_000):
            for kind, sparse in sparse_by_kind.items():
                experiment = override(experiment_of("lazy_adam"), {"training.sparse_tables": sparse})
                work = on_gpus(experiment, sized(schema_of(experiment), rows))
                cells = []
                for bandwidth in NETWORKS.values():
                    found = [efficiency(work, Network(bandwidth, HOP), rows_of_worker, n) for n in (8, 64, 256)]
                    cells.append(", ".join(f"{100 * each:.1f}" for each in found))
                fast = Network(NETWORKS["100 Gbit/s"], HOP)
                times = {n: step_time(work, fast, n * rows_of_worker, n) for n in (8, 64, 256)}
                rates = ", ".join(f"{n * rows_of_worker / 1e6 / found.seconds:.2f}" for n, found in times.items())
                size = sum(received_bytes(work, 64 * rows_of_worker, 64)) / 1e9
                print(f"| {rows:,} {kind} | {size:.3f} | {' | '.join(cells)} | {rates} | {times[64].limit} |")
    experiment = experiment_of("lazy_adam")
    large, network = sized(schema_of(experiment), 10_000_000), Network(NETWORKS["100 Gbit/s"], HOP)
    without = override(experiment, {"training.sparse_tables": None})
    dense, small = on_gpus(without, large), on_gpus(without, sized(large, 10_000))
    sparse = on_gpus(experiment, large)
    for name, work in (("4 x 10 million rows, row-sparse", sparse), ("4 x 10,000 rows, dense", small)):
        found = {f"{batch:,}": useful_workers(work, network, batch) for batch in (65_536, 1 << 20)}
        print(f"{name}: useful workers at 100 Gbit/s by global batch {found}")
    assert step_time(sparse, network, 64 * 4096, 64).seconds < step_time(dense, network, 64 * 4096, 64).seconds


@pytest.fixture
def no_ray_remains() -> Iterator[None]:
    """What a test connects to is gone for the next one, also if it fails."""
    yield
    ray.shutdown()


def test_ray_train_and_ray_data(tmp_path: Path, no_ray_remains, monkeypatch):
    monkeypatch.setattr(parallel, "IN_PROCESS_ROWS", 0)  # Ray Data is what is measured
    experiment = small_experiment(
        data__source__num_interactions=TRAINED_ROWS,
        data__source__num_users=20_000,
        data__source__num_items=5_000,
        data__split={"kind": "random", "valid": 0.0, "test": 0.01},
        data__bucket_rows=100_000,
        model__embedding_dim=32,
        model__encoder={"hidden": [256, 128]},
        model__tower={"hidden": [64]},
        training__precision="float32",
        training__batch_size=4096,
        training__epochs=EPOCHS,
        training__threads_per_worker=1,
        training__output=str(tmp_path / "runs"),
    )
    seconds = {}
    for cpus in (1, 2):
        connect(num_cpus=cpus, log_to_driver=False)
        for rows in (10_000, ROWS // 4, ROWS):  # the first one loads what the processes need
            changes = {"data.source.num_interactions": rows, "data.output": str(tmp_path / f"{cpus}-{rows}")}
            start = time.perf_counter()
            prepared = prepare(override(experiment, changes), echo=lambda _: None)
            seconds[cpus, rows] = time.perf_counter() - start
        fixed, row = line([(float(rows), seconds[cpus, rows]) for rows in (ROWS // 4, ROWS)])
        print(f"\nprepare, {cpus} CPUs: {ROWS:,} rows in {seconds[cpus, ROWS]:.1f} s, {ROWS // 4:,} rows in ", end="")
        print(f"{seconds[cpus, ROWS // 4]:.1f} s: {fixed:.1f} s and {1e6 * row:.2f} us a row", end="")
        if cpus == 1:
            ray.shutdown()
    for _ in range(2):
        start, shard = time.perf_counter(), Shard(prepared.folder, prepared.schema, "train", 0, 1, 0)
        num_rows = sum(len(batch["row"]) for batch in shard.training_batches(0, 0, 4096))
        print(f"\none worker streams {num_rows / (time.perf_counter() - start):,.0f} rows/s from the data set", end="")
    prepared = prepare(override(experiment, {"data.output": str(tmp_path / "trained")}), echo=lambda _: None)
    trainings = {n: RayTraining(override(experiment, {"training.num_workers": n}), prepared, tmp_path) for n in (1, 2)}
    ratios, rates = [], []
    for _ in range(EPOCHS):
        one, two = in_turns(*trainings.values())
        rates.append((prepared.schema.num_rows["train"] / one, prepared.schema.num_rows["train"] / two))
        ratios.append(one / two)
    for training in trainings.values():
        training.end()
    one, two = (statistics.median(each[1:]) for each in zip(*rates, strict=True))
    gain = statistics.median(ratios[1:])
    print(f"\nRay Train, 1 and 2 workers of one thread: {one:,.0f} and {two:,.0f} rows/s, {gain:.2f} times")
    assert gain > 1
