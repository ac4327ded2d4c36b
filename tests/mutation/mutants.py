"""Mutation testing: change an operator or a constant in a copy of the code; the tests of that code should fail.

    python tests/mutation/mutants.py --seed 1 --each 13

draws 13 mutants at random in each row of `ROOMS`, with the operators of Cosmic Ray. A mutant whose tests all pass has
survived: a test is missing, or the change changes nothing. All tests of a row first have to pass on the unchanged copy.
"""

import argparse
import importlib
import importlib.util
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from parso.tree import NodeOrLeaf

ROOT = Path(__file__).parents[2]

ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "preparation": (
        ["data/preparation/*.py", "data/encoding.py"],
        [
            "unit/data/preparation",
            "unit/data/test_encoding.py",
            "local/test_prepare.py",
            "local/test_events.py",
            "local/test_rough_logs.py",
            "local/test_joined_tables.py",
            "local/test_statistic.py",
            "local/test_audience.py",
            "local/test_giveaways.py",
        ],
    ),
    "values": (["values/*.py"], ["unit/values", "unit/data/test_encoding.py", "local/test_values.py"]),
    "metrics": (
        [f"evaluation/{name}.py" for name in ("metrics", "roc_auc", "segments", "baselines", "losses", "evaluate")],
        ["unit/evaluation", "local/test_baselines.py"],
    ),
    "significance": (
        ["evaluation/significance.py", "evaluation/uncertainty.py", "evaluation/spread.py", "comparison/results.py"],
        ["unit/evaluation", "unit/comparison"],
    ),
    "gate": (["promotion/gate.py", "promotion/findings.py", "promotion/decision.py"], ["unit/promotion"]),
    "checkpoints": (
        ["models/checkpoint*.py", "models/ensemble.py"],
        ["unit/models/test_checkpoint.py", "unit/models/test_ensemble.py", "local/test_resume.py"],
    ),
    "balancing": (
        ["balancing/*.py"],
        ["unit/balancing", "local/test_balancing_parallel.py", "local/test_balancing.py"],
    ),
    "library": (
        ["reporting/results.py", "data/sources/memory.py", "runs/model.py"],
        ["unit/reporting/test_results.py", "local/test_memory.py", "local/test_load_model.py"],
    ),
    "drafting": (["drafting/*.py"], ["unit/drafting"]),
    "own parts": (
        ["config/custom.py", "tasks/own_loss.py", "training/callbacks.py"],
        [
            "unit/config/test_custom.py",
            "unit/tasks/test_own_parts.py",
            "unit/test_untrusted.py",
            "local/test_callbacks.py",
        ],
    ),
}
"""By name: modules below `mtl_ray`, and the tests below `tests` that cover them, quick ones first."""

OPPOSITES = {
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Add", "Pow_Mul"),
    *("BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitAnd", "LShift_RShift", "RShift_LShift"),
}
"""Changes of a binary operator. Most others are errors of type, which any test would notice."""

PRELOADED = ("pytest", "torch", "pandas", "pyarrow.dataset", "scipy.stats", "mlflow", "ray.data")
"""What takes long to import and is not mutated: each test run is forked from a process that has it."""

NOT_RUN = "not and_the_cluster"
"""Leaves out the test that starts Ray, which takes longer than all others of its row."""


@dataclass(frozen=True)
class Mutant:
    """One occurrence of an operator of Cosmic Ray in a module."""

    path: Path
    """Below the root."""
    operator: str
    occurrence: int
    line: int

    def source(self, root: Path) -> str:
        """Return the module with the change."""
        changed = mutate_code((root / self.path).read_text(), get_operator(self.operator)(), self.occurrence)
        assert changed is not None
        return changed

    @property
    def compiles(self) -> bool:
        """True if the module is still valid Python."""
        with suppress(SyntaxError):
            compile(self.source(ROOT), self.path, "exec")
            return True
        return False

    def __str__(self) -> str:
        before, after = ((ROOT / self.path).read_text(), self.source(ROOT))
        line = next(
            n for n, pair in enumerate(zip(before.split("\n"), after.split("\n"), strict=False)) if len({*pair}) > 1
        )
        old, new = (text.split("\n")[line].strip() for text in (before, after))
        return f"{self.path}:{line + 1}: `{old}` -> `{new}`"


def operators() -> list[str]:
    """Return the names of the operators to use."""
    binary, comparison = "core/ReplaceBinaryOperator_", "core/ReplaceComparisonOperator_"
    kept = {
        *("core/AddNot", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/NumberReplacer"),
        *("core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/ReplaceBreakWithContinue"),
        *("core/ReplaceContinueWithBreak", "core/ZeroIterationForLoop", "core/ReplaceUnaryOperator_Delete_USub"),
        *("core/ReplaceUnaryOperator_Delete_Invert", "core/ReplaceUnaryOperator_Delete_Not"),
        *(f"{comparison}{pair}" for pair in ("Is_IsNot", "IsNot_Is")),
        *(f"{binary}{pair}" for pair in OPPOSITES),
    }
    compared = [n for n in operator_names() if n.startswith(comparison) and "Is" not in n.removeprefix(comparison)]
    return sorted(kept) + compared


def is_left_out(node: NodeOrLeaf) -> bool:
    """Return whether a place is a type, a decorator, a text, a bare star or an assertion of what always holds."""
    if node.parent is not None and node.parent.type in ("parameters", "param") and node.type == "operator":
        return True
    while node.parent is not None:
        parent = node.parent
        if node.type in ("decorator", "fstring", "assert_stmt"):
            return True
        is_type = (
            parent.type in ("annassign", "tfpdef") and node is parent.children[1 if parent.type == "annassign" else 2]
        )
        if is_type or (parent.type == "funcdef" and node.get_previous_leaf().value == "->"):
            return True
        if parent.type == "argument" and parent.children[0].get_code().strip() == "strict":
            return True
        node = parent
    return False


def places(path: Path) -> Iterator[tuple[tuple[int, int], Mutant]]:
    """Yield every mutant of a module with its place in the text."""
    tree = get_ast((ROOT / path).read_text())
    for name in operators():
        operator = get_operator(name)()
        found = ((node, start) for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        for occurrence, (node, start) in enumerate(found):
            if not is_left_out(node):
                yield start, Mutant(path, name, occurrence, start[0])


def draw(patterns: list[str], number: int, generator: random.Random) -> list[Mutant]:
    """Draw places at random, then at each place one of its mutants; one that does not compile is drawn anew."""
    by_place: dict[tuple[Path, tuple[int, int]], list[Mutant]] = {}
    for path in sorted({path.relative_to(ROOT) for p in patterns for path in (ROOT / "mtl_ray").glob(p)}):
        for place, mutant in places(path):
            by_place.setdefault((path, place), []).append(mutant)
    order = generator.sample(sorted(by_place), len(by_place))
    drawn = (generator.choice(by_place[place]) for place in order)
    return list(islice((mutant for mutant in drawn if mutant.compiles), number))


def copy_tree(folder: Path) -> None:
    """Copy the files that git knows or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _test(folder: Path, tests: list[str], log: Path) -> None:
    """Run tests in a copy; in a process of its own, which ends with pytest's exit code."""
    import pytest

    os.setsid()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    # Plugins that are found by themselves may be among what is preloaded, which pytest warns of.
    plugins = ("pytest_timeout", "_hypothesis_pytestplugin", "no:cacheprovider")
    options = ["-xq", "--disable-plugin-autoload", "--hypothesis-seed=0", "-o", "timeout=200", "-k", NOT_RUN]
    options += [part for name in plugins for part in ("-p", name)]
    code = pytest.main([*options, *(f"tests/{name}" for name in tests)])
    assert sys.modules["mtl_ray"].__file__ == str(folder / "mtl_ray/__init__.py")
    sys.stdout.flush()
    os._exit(code)


def passes(folder: Path, tests: list[str], limit: float, log: Path) -> bool:
    """Return whether all tests pass in a copy within a number of seconds."""
    present = [name for name in tests if (folder / "tests" / name).exists()]
    process = multiprocessing.get_context("fork").Process(target=_test, args=(folder, present, log))
    process.start()
    process.join(limit)
    if hung := process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return not hung and process.exitcode == 0


def run(room: str, mutants: list[Mutant], folder: Path, limit: float) -> list[Mutant]:
    """Return the mutants that survive the tests of a room."""
    tests, log, survivors = ROOMS[room][1], folder.with_suffix(".log"), []
    began = time.monotonic()
    if not passes(folder, tests, limit, log):
        sys.exit(f"{room}: the tests of the unchanged code do not pass; {log.read_text()[-2000:]}")
    print(f"{room}: all tests take {time.monotonic() - began:.0f} s", flush=True)
    for mutant in mutants:
        module = folder / mutant.path
        original = module.read_text()
        module.write_text(mutant.source(folder))
        # Python would take the compiled module if size and second are those of the original.
        Path(importlib.util.cache_from_source(str(module))).unlink(missing_ok=True)
        survived = passes(folder, tests, limit, log)
        module.write_text(original)
        Path(importlib.util.cache_from_source(str(module))).unlink(missing_ok=True)
        lines = log.read_text(errors="replace").strip().split("\n")
        reason = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), lines[-1])
        print(f"{'SURVIVED' if survived else f'killed by {reason[:100]}'}: {room}, {mutant}", flush=True)
        if survived:
            survivors.append(mutant)
    return survivors


def main() -> None:
    """Print each mutant with its fate, then how many were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=13, help="mutants of each row")
    parser.add_argument("--limit", type=float, default=1200, help="seconds after which a mutant counts as killed")
    parser.add_argument("--only", nargs="*", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    settings = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0", MLFLOW_DISABLE_TELEMETRY="true")
    drawn = {
        name: draw(ROOMS[name][0], settings.each, random.Random(f"{settings.seed} {name}"))  # noqa: S311 - no secret
        for name in settings.only
    }
    if settings.list:
        print(*(str(mutant) for mutants in drawn.values() for mutant in mutants), sep="\n")
        return
    for name in PRELOADED:
        importlib.import_module(name)
    table = ["| modules | drawn | killed |", "|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folder = Path(temporary) / "copy"
        copy_tree(folder)
        for name, mutants in drawn.items():
            survivors = run(name, mutants, folder, settings.limit)
            table.append(f"| {name} | {len(mutants)} | {len(mutants) - len(survivors)} |")
    print("\n".join(table))


if __name__ == "__main__":
    main()
