"""Unpack a zip from elsewhere: what it holds is looked at before anything is written."""

import lzma
import shutil
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from mtl_ray.errors import InputError, first_line, some

LARGE_BYTES, MOST_TIMES = 1 << 30, 100
"""A zip whose content is larger than this, and so many times as large as itself, is no data set: tables shrink less."""
MOST_FILES, MOST_FOLDERS = 100_000, 50
BY_HAND = "unpack it yourself and give the folder"
_ENCRYPTED = 0x1 | 0x40
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a new folder.

    Raises:
        InputError: it is encrypted, larger than the disk or than a data set can be, leads out of the folder, or has
            files that cannot be unpacked or written.
    """
    folder.mkdir()
    name = archive.name
    try:
        with zipfile.ZipFile(archive) as file:
            _refuse(file, archive, folder)
            for info in file.infolist():
                name = f"{archive.name}: {info.filename[:100]}"
                file.extract(info, folder)
    except NotImplementedError as error:
        raise InputError(f"{name}: expected a zip that Python unpacks, found {first_line(error)}; {BY_HAND}") from error
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, InputError):
            raise
        if isinstance(error, OSError) and error.errno:
            place = folder.parent.parent
            raise InputError(f"{name}: expected to write it to {place}, found: {error.strerror}; {BY_HAND}") from error
        raise InputError(
            f"{name}: expected a zip, found what cannot be unpacked ({first_line(error)}); get it again, or {BY_HAND}"
        ) from error


def _refuse(file: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    infos = file.infolist()
    if encrypted := [info.filename for info in infos if info.flag_bits & _ENCRYPTED]:
        raise InputError(
            f"{archive.name}: expected a zip without password, found {some(encrypted, 3)} encrypted; {BY_HAND}"
        )
    if len(infos) > MOST_FILES:
        raise InputError(f"{archive.name}: expected at most {MOST_FILES:,} files, found {len(infos):,}; {BY_HAND}")
    packed, unpacked = archive.stat().st_size, sum(info.file_size for info in infos)
    if unpacked > LARGE_BYTES and unpacked > MOST_TIMES * packed:
        raise InputError(
            f"{archive.name}: expected at most {MOST_TIMES} times the {packed:,} bytes of the zip, found "
            f"{unpacked:,} bytes in it; if you trust it, {BY_HAND}"
        )
    if unpacked > (free := shutil.disk_usage(folder).free):
        raise InputError(
            f"{archive.name}: expected room for its {unpacked:,} bytes in {folder.parent.parent}, found {free:,} bytes "
            "free; give data.cache a folder on a larger disk"
        )
    names = Counter(info.filename for info in infos)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"{archive.name}: expected each name once, found {some(twice, 3)} again; {BY_HAND}")
    for name in names:
        if name.count("/") > MOST_FOLDERS:
            raise InputError(
                f"{archive.name}: expected at most {MOST_FOLDERS} folders within each other, found {name[:100]}...; "
                f"{BY_HAND}"
            )
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{archive.name}: expected files inside the zip's folder, found {name}; do not use it")
