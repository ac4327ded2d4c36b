"""The base of every section of the experiment file."""

import pkgutil
from functools import cache
from typing import Any, ClassVar, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """Frozen, and closed: a key it does not know is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    implementation: ClassVar[str] = ""
    """`module:Class` of what the section describes, if that is a class of its own; see `implementation_of`."""


def implementation_of(section: Section) -> Any:
    """Import the class or function that a section describes; the settings themselves import nothing of it."""
    return _imported(section.implementation)


_imported = cache(pkgutil.resolve_name)  # it is asked for in every step and every request


def name_alone(union: Any) -> BeforeValidator:
    """Lets the name of a member of a union stand for the member: `split: time` for `split: {kind: time}`."""
    either = Union[union, str]  # noqa: UP007 - of a value, not of a type
    return BeforeValidator(
        lambda value: {"kind": value} if isinstance(value, str) else value, json_schema_input_type=either
    )
