"""Pack the working folder for a cluster: what its ignore files let through, but never environments, data or secrets."""

import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pathspec import GitIgnoreSpec

from mtl_ray.errors import InputError

IGNORE_FILES = (".gitignore", ".rayignore")
"""Files that are read in every folder, with git's rules. The second is for what belongs to the project but not to a
job, and may take back (`!name`) what the first one ignores."""

NEVER = GitIgnoreSpec.from_lines(
    [
        # environments, caches, histories of versions
        *(".venv/", "venv/", "node_modules/", "__pycache__/", "*.egg-info/", ".ipynb_checkpoints/", ".*_cache/"),
        *(".git", ".hg/", ".svn/", ".hypothesis/"),
        # output of this package's commands in the folder where they run
        *("/datasets/", "/runs/", "/reports/", "mlflow.db", "mlflow.db-*", "mlruns/", "mlartifacts/"),
        # secrets
        *(".env", ".env.*", "*.env", ".envrc", ".netrc", ".pgpass", ".pypirc", ".npmrc", ".git-credentials"),
        *(".ssh/", ".aws/", ".azure/", ".kube/", ".ray/", ".config/", ".databrickscfg", "auth_token"),
        *("credentials", "credentials.json", "id_rsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx"),
    ]
)
ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")
"""Names that mark a folder as a Python environment."""

Rules = tuple[tuple[Path, GitIgnoreSpec], ...]
"""Ignore files with their folders, the outermost first."""


@dataclass(frozen=True)
class Package:
    """The files to pack."""

    root: Path
    files: list[str]
    """Paths below `root`, sorted."""
    num_bytes: int
    """Size of the files before compression."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """Files from outside of `root`, by their paths in the package."""

    def write(self, target: Path) -> None:
        """Write the zip. Equal files give equal bytes, so a cluster that has it is not sent it again."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in sorted(({name: self.root / name for name in self.files} | dict(self.beside)).items()):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.external_attr = file.stat().st_mode << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())

    def with_code(self, code: Mapping[str, Path]) -> "Package":
        """Return it with the folder or file of each Python package at the top, where jobs import it from.

        Args:
            code: by name of the package; see `config.custom.code_of`.
        """
        beside = {}
        for name, place in code.items():
            if place.is_file():
                beside[place.name] = place
            else:
                beside |= {f"{name}/{file}": place / file for file in package(place).files}
        packed = {name: (self.root / name).resolve() for name in self.files}
        beside = {name: file for name, file in beside.items() if packed.get(name) != file.resolve()}
        more = sum(file.stat().st_size for file in beside.values())
        return replace(self, beside=beside, num_bytes=self.num_bytes + more)


def package(root: Path, without: Collection[Path] = (), max_bytes: int | None = None) -> Package:
    """List the files of a folder that go to the cluster. Links are packed if they lead to a file that is packed.

    Args:
        root: working folder.
        without: folders and files to leave out, such as those with data.
        max_bytes: largest size of all files together.

    Raises:
        InputError: there is no such folder, or the files have more than `max_bytes`; the message names the biggest.
    """
    root = root.resolve()
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder to pack")
    stay = {path.expanduser().resolve() for path in without}
    found = list(_walk(root, root, _above(root), stay))
    packed = {file for file in found if not file.is_symlink()}
    kept = [file for file in found if file in packed or file.resolve() in packed]
    sizes = {str(file.relative_to(root)): file.stat().st_size for file in kept}
    total = sum(sizes.values())
    if max_bytes is not None and total > max_bytes:
        raise InputError(
            f"{root}: expected at most {_megabytes(max_bytes)} to pack; found {_megabytes(total)}, of which "
            f"{', '.join(f'{name} {_megabytes(size)}' for name, size in _biggest(sizes))}; name what a job does not "
            "need in .rayignore, or allow more with --max-megabytes"
        )
    return Package(root, sorted(sizes), total)


def _walk(folder: Path, root: Path, rules: Rules, stay: Collection[Path]) -> Iterator[Path]:
    if any((folder / mark).exists() for mark in ENVIRONMENT_MARKS):
        return
    rules += _rules_in(folder)
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir()
        if path.resolve() in stay or _ignored(path, is_folder, ((root, NEVER),)) or _ignored(path, is_folder, rules):
            continue
        if is_folder:
            if not path.is_symlink():
                yield from _walk(path, root, rules, stay)
        elif path.is_file():
            yield path


def _ignored(path: Path, is_folder: bool, rules: Rules) -> bool:
    """Return the decision of the innermost ignore file that has a matching rule."""
    for base, spec in reversed(rules):
        ignored = spec.check_file(path.relative_to(base).as_posix() + "/" * is_folder).include
        if ignored is not None:
            return ignored
    return False


def _rules_in(folder: Path) -> Rules:
    files = [folder / name for name in IGNORE_FILES if (folder / name).is_file()]
    lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
    return ((folder, GitIgnoreSpec.from_lines(lines)),) if lines else ()


def _above(root: Path) -> Rules:
    """Return the rules of the folders above `root`, up to the top of its git checkout."""
    inner = []
    for folder in (root, *root.parents):
        if (folder / ".git").exists():
            return tuple(rule for above in reversed(inner) for rule in _rules_in(above))
        inner.append(folder.parent)
    return ()


def _biggest(sizes: dict[str, int], number: int = 3) -> list[tuple[str, int]]:
    """Return the biggest entries, with a folder opened if it holds most of the total."""
    folder = ""
    while True:
        entries: Counter[str] = Counter()
        for name, size in sizes.items():
            if name.startswith(folder):
                first, slash, _ = name[len(folder) :].partition("/")
                entries[folder + first + slash] += size
        biggest = entries.most_common(number)
        if biggest[0][0].endswith("/") and biggest[0][1] > 0.8 * entries.total():
            folder = biggest[0][0]
        else:
            return biggest


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
