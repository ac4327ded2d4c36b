"""An encoded data set that `prepare` made."""

from dataclasses import dataclass
from typing import Any

from mtl_ray.errors import InputError
from mtl_ray.schema import Schema
from mtl_ray.storage import Folder


@dataclass(frozen=True)
class Prepared:
    """A finished data set."""

    folder: Folder
    schema: Schema
    quality: dict[str, Any]
    reused: bool
    """True if it was there already."""


def open_prepared(location: str) -> Prepared:
    """Open a data set made earlier. Raises InputError if `location` is not one, or a file of it is damaged."""
    folder = Folder(location)
    if not folder.exists("schema.json"):
        raise InputError(f"{location}: expected a prepared data set (a folder with schema.json); run `mtl-ray prepare`")
    return Prepared(folder, folder.read_model("schema.json", Schema), folder.read_json("quality.json"), reused=True)
