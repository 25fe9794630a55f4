"""A configuration from loose settings, refused in one line."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

C = TypeVar("C", bound=BaseModel)

# What pydantic finds wrong, as a rule and a remedy; {ge} and the like are its own context.
_WORDS = {
    "greater_than_equal": ("must be at least {ge}", "raise it"),
    "greater_than": ("must be greater than {gt}", "raise it"),
    "less_than_equal": ("must be at most {le}", "lower it"),
    "literal_error": ("must be {expected}", "choose one"),
    "int_parsing": ("must be a whole number", "pass one such as 10"),
    "int_type": ("must be a whole number", "pass one such as 10"),
    "int_from_float": ("must be a whole number", "pass one such as 10"),
    "float_parsing": ("must be a number", "pass one such as 0.1"),
    "float_type": ("must be a number", "pass one such as 0.1"),
    "extra_forbidden": ("is no setting", "leave it out"),
}


def configured(
    kind: type[C],
    settings: Mapping[str, Any],
    *,
    rules: Mapping[str, str] = {},
    remedies: Mapping[str, str] = {},
) -> C:
    """The configuration; ValueError in one line for the first setting that is wrong: rule, value, remedy.

    Args:
        kind: of which.
        settings: by name.
        rules, remedies: by a setting's name, where they are better said than by what pydantic found.
    """
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        rule, remedy = _WORDS.get(first["type"], (f"must be right ({first['msg'].lower()})", "change it"))
        context = first.get("ctx", {})
        rule, remedy = rules.get(name, rule.format(**context)), remedies.get(name, remedy)
        raise ValueError(f"{name} {rule}, got {first['input']!r}; {remedy}") from None
