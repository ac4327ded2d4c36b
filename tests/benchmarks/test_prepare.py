"""Rows per second of `prepare`, and its peak memory on one and five million rows: it must not grow in proportion."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

SCRIPT = """
import sys
from mtl_ray.data.prepare import prepare
from mtl_ray.session import connect
from tests.support import small_experiment

rows, output = int(sys.argv[1]), sys.argv[2]
experiment = small_experiment(
    data__source__num_interactions=rows,
    data__source__num_users=100_000,
    data__source__num_items=20_000,
    data__bucket_rows=250_000,
    data__output=output,
)
connect()
import time
start = time.perf_counter()
prepared = prepare(experiment)
assert sum(prepared.schema.num_rows.values()) + prepared.quality["bad"] == rows
print(time.perf_counter() - start)
"""


def peak_memory(process: subprocess.Popen, peak: list[int]) -> None:
    """Largest sum of the private and shared memory of the process and all below it, each shared page counted once."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for each in [root, *root.children(recursive=True)]:
            try:
                total += each.memory_full_info().pss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)
        time.sleep(0.5)


def measured(rows: int, folder: Path) -> tuple[float, int]:
    command = [sys.executable, "-c", SCRIPT, str(rows), str(folder / str(rows))]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
    peak = [0]
    watcher = threading.Thread(target=peak_memory, args=(process, peak))
    watcher.start()
    output, errors = process.communicate()
    watcher.join()
    assert process.returncode == 0, errors
    return float(output.strip().splitlines()[-1]), peak[0]


def test_memory_does_not_grow_with_the_log(tmp_path: Path):
    small_seconds, small = measured(1_000_000, tmp_path)
    seconds, large = measured(5_000_000, tmp_path)
    print(f"\nprepare, 1 million rows: {1e6 / small_seconds:,.0f} rows/s, peak memory {small / 2**20:,.0f} MiB")
    print(f"prepare, 5 million rows: {5e6 / seconds:,.0f} rows/s, peak memory {large / 2**20:,.0f} MiB")
    print(f"five times the rows take {large / small:.2f} times the memory")
    assert large / small < 2.5
