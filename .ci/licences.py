"""Write the tables of docs/licences.md from the metadata of what is installed: `requirements/` without `cuda.txt`."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licences.md"
TABLES = "## Direct dependencies"
COPYLEFT = re.compile("GPL|MPL|EPL|CDDL|EUPL|Mozilla|General Public|unknown")


def normalized(requirement: str) -> str:
    """Return the name in a requirement, as files of requirements write it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def licence(name: str) -> str:
    """Return the licence that the metadata of an installed package names."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return "not installed"
    classified = [line.rpartition(" :: ")[2] for line in found.get_all("Classifier", []) if line.startswith("License")]
    named = ", ".join(name for name in classified if name not in ("OSI Approved", "DFSG approved"))
    first_line = (found["License"] or "").strip().partition("\n")[0]
    return found["License-Expression"] or named or first_line or "unknown: the metadata name none"


def tables() -> str:
    """Return direct dependencies by extra, and the indirect ones whose licence is copyleft or unknown."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {"base": project["dependencies"], **project["optional-dependencies"]}
    lines = [TABLES, "", "| file | package | licence |", "|---|---|---|"]
    names = {}
    for group, requirements in direct.items():
        names[group] = sorted({normalized(each) for each in requirements} - {"mtl-ray"})
        lines += [f"| {group} | {name} | {licence(name)} |" for name in names[group]]
    lines += ["", "## Indirect dependencies with a copyleft or unknown licence", "", *lines[2:4]]
    for group in direct:
        text = (ROOT / f"requirements/{group}.txt").read_text()
        pinned = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
        found = {name: licence(name) for name in pinned if all(name not in each for each in names.values())}
        lines += [f"| {group} | {name} | {own} |" for name, own in found.items() if COPYLEFT.search(own)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(TABLES)[0] + tables())
