"""Seconds of the commands that look and change nothing."""

import subprocess
import sys
import time
from pathlib import Path

FILE = Path(__file__).parents[2] / "jobs/synthetic.yaml"
REPETITIONS = 5


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mtl_ray.cli", *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def test_start_of_help_and_check(tmp_path, performance):
    """Wall time of whole processes. `check` reads `jobs/synthetic.yaml` and the first 100,000 rows of its log, which is
    not prepared; the first time in which it sees a model it loads torch to count what the model costs."""
    options = ["--set", f"data.cache={tmp_path}", "--set", f"data.output={tmp_path}"]
    seconds("--help")
    times = [seconds("--help") for _ in range(REPETITIONS)]
    performance("`mtl-ray --help`", times, bar=0.5, at_least=False, seconds=True)
    first = [seconds("check", str(FILE), *options, "--set", f"model.tower.hidden=[{n}]") for n in (30, 31, 32)]
    times = [seconds("check", str(FILE), *options, "--set", "model.tower.hidden=[32]") for _ in range(REPETITIONS)]
    performance("`mtl-ray check`, a model seen before", times, bar=1.5, at_least=False, seconds=True)
    performance("`mtl-ray check`, a new model", first, bar=1.5, at_least=False, seconds=True)
