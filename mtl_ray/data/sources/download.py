"""Raw data sets given as a folder, a zip or the URL of a zip: each becomes a folder on this machine."""

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mtl_ray.errors import InputError

TIMEOUT = 30.0
"""Seconds without an answer after which a download fails."""
BLOCK_BYTES = 1 << 20
REMEDY = "data.raw can point to a folder or zip on this machine instead"


def local_folder(raw: str, cache: str, sha256: str | None = None) -> Path:
    """Return the folder that `raw` names; unpack a zip, download a URL.

    Each zip is downloaded and unpacked once; later calls find it in the cache. If a zip contains a single folder, that
    folder is returned.

    Args:
        raw: path of a folder or zip, or an http, https or file URL.
        cache: folder for unpacked zips; `~` is the user's home.
        sha256: expected digest of the zip.

    Raises:
        InputError: nothing is there, it is no zip, its digest differs, or the download failed.
    """
    kept = Path(cache).expanduser().absolute()
    address = urlsplit(raw)
    if address.scheme in ("http", "https"):
        target = kept / f"{Path(address.path).stem}-{hashlib.sha256(raw.encode()).hexdigest()[:16]}"
        return _unpacked(target, lambda aside: _download(raw, aside, sha256))
    if address.scheme and "://" in raw and address.scheme != "file":
        raise InputError(f"{raw}: expected a folder, a zip or an http(s) URL, found {address.scheme}://; {REMEDY}")
    path = Path(urllib.request.url2pathname(address.path) if address.scheme == "file" else raw).expanduser().absolute()
    if path.is_dir():
        return path
    if not path.is_file():
        raise InputError(f"{raw}: expected a folder or a zip, found nothing there; correct data.raw")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{raw}: expected a folder or a zip, found a file that is no zip; correct data.raw")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _check(raw, digest, sha256)
    return _unpacked(kept / f"{path.stem}-{digest[:16]}", lambda _: path)


def _unpacked(target: Path, get_zip: Callable[[Path], Path]) -> Path:
    """Return the unpacked zip. A folder of this name is always complete, since it gets its name last."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        aside.mkdir()
        try:
            archive = get_zip(aside)
            _unpack(archive, aside / "unpacked")
            _give_name(aside / "unpacked", target)
        finally:
            shutil.rmtree(aside)
    found = [path for path in target.iterdir() if path.name != "__MACOSX" and not path.name.startswith(".")]
    return found[0] if len(found) == 1 and found[0].is_dir() else target


def _give_name(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster, with the same content
            raise


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise InputError(
                        f"{archive.name}: expected files inside the zip's folder, found {name}; do not use it"
                    )
            file.extractall(folder)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{archive.name}: expected a zip, found what cannot be unpacked ({error}); {REMEDY}"
        ) from error


def _download(url: str, folder: Path, sha256: str | None) -> Path:
    path = folder / (Path(urlsplit(url).path).name or "archive.zip")
    digest = hashlib.sha256()
    progress = Progress(
        TextColumn("{task.description}"),
        *(BarColumn(), DownloadColumn(), TimeRemainingColumn()),
        console=Console(stderr=True),
    )
    try:
        # The scheme has been checked: http or https.
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file, progress:  # noqa: S310
            size = int(answer.headers.get("Content-Length") or 0)
            task = progress.add_task(path.name, total=size or None)
            while block := answer.read(BLOCK_BYTES):
                file.write(block)
                digest.update(block)
                progress.advance(task, len(block))
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        found = f"HTTP {error.code} {reason}" if isinstance(error, urllib.error.HTTPError) else str(reason)
        raise InputError(f"{url}: expected a zip to download, found {found}; {REMEDY}") from error
    if size and path.stat().st_size != size:
        raise InputError(f"{url}: expected {size:,} bytes, found {path.stat().st_size:,}; try again, or {REMEDY}")
    _check(url, digest.hexdigest(), sha256)
    return path


def _check(raw: str, found: str, expected: str | None) -> None:
    if expected and found != expected:
        raise InputError(f"{raw}: expected a zip with the sha256 {expected}, found {found}; try again, or {REMEDY}")
