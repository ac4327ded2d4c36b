"""The model of step times on N workers."""

import numpy as np
import pytest

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

WORK = Work(1e-3, 1e-6, 1e-4, 0.0, dense_bytes=4e6, calls=3)
NETWORK = Network(bandwidth=1e9, latency=1e-5)


def test_one_worker_exchanges_nothing():
    sparse = Work(1e-3, 1e-6, 1e-4, 1e-7, 4e6, 3, (Table(1000, 8),))
    assert received_bytes(sparse, 4096, 1) == (0, 0)
    assert step_time(sparse, NETWORK, 4096, 1).exchange == 0
    assert efficiency(sparse, NETWORK, 4096, 1) == 1


def test_the_terms_by_hand():
    found = step_time(WORK, NETWORK, 4096, 4)
    assert found.compute == pytest.approx(1e-3 + 1024e-6)
    assert found.dense == pytest.approx(2 * 3 / 4 * 4e6 / 1e9)
    assert found.latency == pytest.approx(3 * 1e-5 * 2)
    assert found.seconds == pytest.approx(found.compute + 1e-4 + found.dense + found.latency)
    assert found.limit == "dense"


def test_touched_rows_are_those_of_random_draws():
    table = Table(rows=5000, width=16, lookups=2)
    drawn = [len(np.unique(np.random.default_rng(seed).integers(5000, size=2 * 3000))) for seed in range(20)]
    assert table.touched(3000) == pytest.approx(np.mean(drawn), rel=0.01)
    assert table.touched(10**9) == pytest.approx(5000)


def test_every_other_worker_s_rows_are_received():
    table = Table(rows=10**9, width=32)
    _, sparse = received_bytes(Work(0, 0, 0, 0, 0, 0, (table,)), batch=8 * 100, workers=8)
    assert sparse == pytest.approx(7 * 100 * (8 + 4 * 32), rel=1e-3)


def test_with_more_workers_efficiency_falls_and_a_faster_network_helps():
    found = [efficiency(WORK, NETWORK, 1024, n) for n in (2, 8, 64, 256)]
    assert found == sorted(found, reverse=True)
    assert efficiency(WORK, Network(1e10, 1e-5), 1024, 64) > found[2]


def test_there_are_workers_beyond_which_more_bring_nothing():
    assert useful_workers(Work(0, 1e-6, 0, 0, 0, 0), NETWORK, 1 << 16, most=1024) == 1024
    assert useful_workers(WORK, NETWORK, 4096) == 1  # the sums of two take longer than half of the rows
    assert 1 < useful_workers(WORK, Network(1e11, 1e-6), 1 << 16) < 1024


def test_a_line_goes_through_exact_points_and_no_coefficient_is_negative():
    assert line([(1, 3.0), (2, 5.0), (4, 9.0)]) == pytest.approx((1, 2))
    assert line([(1, 1.0), (2, 3.0)])[0] == 0
    assert line([(1, 2.0), (2, 1.0)])[1] == 0
