"""Rankscope: fit matrices as products of small parts and watch the rank emerge."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankscope.nmf import NMF, DeepNMF
    from rankscope.trace import RankTracker

__version__ = "0.1.0"
__all__ = ["NMF", "DeepNMF", "RankTracker", "__version__"]

_HOMES = {"NMF": "rankscope.nmf", "DeepNMF": "rankscope.nmf", "RankTracker": "rankscope.trace"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: ``rankscope --help`` should not wait for torch and scikit-learn."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rankscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
