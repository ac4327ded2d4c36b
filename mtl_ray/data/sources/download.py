"""Raw data sets given as a folder, a zip or the URL of a zip: each becomes a folder on this machine."""

import hashlib
import shutil
import urllib.request
import uuid
import zipfile
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mtl_ray.data.sources.unzip import unpack
from mtl_ray.errors import InputError, first_line

TIMEOUT = 30.0
"""Seconds without an answer after which a download fails."""
RETRIES = 2
"""Further attempts after a failed download, a second or two apart."""
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
            unpack(archive, aside / "unpacked")
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


def _download(url: str, folder: Path, sha256: str | None) -> Path:
    import pooch  # noqa: PLC0415 - only a download needs it
    from requests import HTTPError, RequestException  # noqa: PLC0415

    name = Path(urlsplit(url).path).name or "archive.zip"
    pooch.get_logger().setLevel("WARNING")
    downloader: Any = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    store = pooch.create(folder, base_url="", registry={name: None}, urls={name: url}, retry_if_failed=RETRIES)
    try:
        path = store.fetch(name, downloader=downloader)
    except HTTPError as error:
        answer: Any = error.response
        found = f"HTTP {answer.status_code} {answer.reason}"
        raise InputError(f"{url}: expected a zip to download, found {found}; {REMEDY}") from error
    except (RequestException, OSError) as error:
        cause = _innermost(error)
        if isinstance(cause, IncompleteRead):  # that of urllib3 has the numbers of bytes read and missing
            read, missing = cause.args
            raise InputError(
                f"{url}: expected {read + missing:,} bytes, found {read:,}; try again, or {REMEDY}"
            ) from error
        raise InputError(f"{url}: expected a zip to download, found {first_line(cause)}; {REMEDY}") from error
    _check(url, pooch.file_hash(path), sha256)
    return Path(path)


def _innermost(error: BaseException) -> Any:
    """Return the error that the others were raised from."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _check(raw: str, found: str, expected: str | None) -> None:
    if expected and found != expected:
        raise InputError(f"{raw}: expected a zip with the sha256 {expected}, found {found}; try again, or {REMEDY}")
