"""A configuration from loose settings, refused in one line."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

C = TypeVar("C", bound=BaseModel)


def configured(kind: type[C], settings: Mapping[str, Any]) -> C:
    """The configuration; ValueError in one line for the first setting that is wrong."""
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise ValueError(f"{name}: {first['msg'].lower()}, got {first['input']!r}") from None
