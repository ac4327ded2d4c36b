"""Write `requirements/*.txt`, the versions of constraints.txt with the hashes of all their files. Needs uv.

`requirements/base.txt` has what the package needs. A file by the name of an extra has what it adds, and `cuda.txt` what
torch adds where it is built for CUDA, so that nobody who computes on CPUs has to load it.
"""

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = "uv pip compile pyproject.toml --constraint constraints.txt --universal --python-version 3.11"
OUTPUT = "--generate-hashes --no-header --no-annotate --quiet --no-config"
CUDA = ("nvidia-", "cuda-", "triton")
"""Prefixes of what torch adds where it is built for CUDA."""


def compiled(*options: str) -> dict[str, str]:
    """Return the lines of each package by name: `NAME==VERSION ; MARKER \\` and one for each hash."""
    command = [*COMMAND.split(), *OUTPUT.split(), *options]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    packages: dict[str, str] = {}
    for line in done.stdout.splitlines(keepends=True):
        if not line.startswith(" "):
            name = line.partition("==")[0]
        packages[name] = packages.get(name, "") + line
    return packages


def write(name: str, packages: dict[str, str]) -> None:
    """Write a file of packages."""
    head = f"# Made by {Path(__file__).relative_to(ROOT)}, see docs/installing.md.\n"
    (ROOT / "requirements" / f"{name}.txt").write_text(head + "".join(packages.values()))
    print(f"requirements/{name}.txt: {len(packages)} packages")


def main() -> None:
    """Write all files."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    base = compiled()
    cuda = {name: lines for name, lines in base.items() if name.startswith(CUDA)}
    write("base", {name: lines for name, lines in base.items() if name not in cuda})
    write("cuda", cuda)
    for extra in extras:
        write(extra, {name: lines for name, lines in compiled("--extra", extra).items() if name not in base})


if __name__ == "__main__":
    main()
