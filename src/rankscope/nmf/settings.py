"""What an estimator may be set to: each rule in one line with the value it refuses and the remedy.

What a solver or a penalty takes is theirs to say (``make_rule``, ``broadcast_per_factor``); here are the rest, whose
mistakes would otherwise show as a TypeError from deep inside, or not at all.
"""

import numbers
from collections.abc import Mapping
from typing import Any

from rankscope.nmf.missing import MISSING


def check_size(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number from ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {value!r}; pass an int of {least} or more")
    return int(value)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse what no fit can use, given an estimator's parameters by name.

    Raises:
        ValueError: a count is not whole, a number is none or out of range, a callback cannot be called.
    """
    check_size("max_iter", settings["max_iter"], least=0)
    if settings["inner_sweeps"] != "auto":
        check_size("inner_sweeps", settings["inner_sweeps"])
    if not any(settings["coarse"] is value for value in (True, False)) and settings["coarse"] != "auto":
        raise ValueError(f"coarse must be True, False or 'auto', got {settings['coarse']!r}; leave it at 'auto'")
    if settings["hops"] != "auto":
        check_size("hops", settings["hops"], least=0)
    if settings["missing"] not in MISSING:
        raise ValueError(
            f"missing must be 'refuse' or 'mask', got {settings['missing']!r}; 'mask' takes NaN for a missing entry"
        )
    if settings["block_rows"] is not None:
        check_size("block_rows", settings["block_rows"])
    if not (_is_number(settings["tol"]) and settings["tol"] >= 0):
        raise ValueError(f"tol must be at least 0, got {settings['tol']!r}; pass a number such as 1e-4")
    scale = settings["init_scale"]
    if not (_is_number(scale) and 0 < scale < float("inf")):
        raise ValueError(f"init_scale must be positive and finite, got {scale!r}; pass a number such as 1.0")
    rate = settings["learning_rate"]
    if rate is not None and not _is_number(rate):
        raise ValueError(f"learning_rate must be positive and finite, got {rate!r}; pass a number or None")
    betas = settings["betas"]
    if not (isinstance(betas, tuple | list) and len(betas) == 2 and all(map(_is_number, betas))):
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}; pass for example (0.9, 0.999)")
    for name in ("l1", "l2", "cosine_separation"):
        _check_weight(name, settings[name])
    if settings["callback"] is not None and not callable(settings["callback"]):
        raise ValueError(
            f"callback must be a function of (step, state), got {settings['callback']!r}; pass one or None"
        )
    if settings["measures"] is not None and not isinstance(settings["measures"], Mapping):
        raise ValueError(
            f"measures must map names to functions of singular values, got {settings['measures']!r}; pass a dict"
        )


def _check_weight(name: str, value: Any) -> None:
    if name == "cosine_separation" and not _is_number(value):
        raise ValueError(f"{name} must be one number, the weight on the rows of H, got {value!r}; pass 0 for none")
    each = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    if not all(map(_is_number, each)):
        raise ValueError(f"{name} must be one number or one for each factor, got {value!r}; pass 0 for none")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
