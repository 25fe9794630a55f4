"""What a tracker looks at: the weights of a model as matrices, held so loosely that the model may go at any time.

A weight is known by its place, the module that owns it and its name there. Only weak references to the modules are
kept, so a tracker neither keeps a model alive nor holds on to a weight that was replaced, by `load_state_dict` with
`assign=True` for one. Wrappers leave no trace in the names: neither `_orig_mod` of torch.compile nor `module` of
DistributedDataParallel and DataParallel.
"""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy


@runtime_checkable
class HasSingularValues(Protocol):
    """A structured weight W (out×in): a module that knows a cheap route to its spectrum, as `rankscope.weights` has."""

    out_features: int
    in_features: int

    def singular_values(self) -> Tensor:
        """The singular values of W, descending."""
        ...


class Spectrum(NamedTuple):
    """The singular values of a weight (r), descending, in float64 on the CPU; NaN where the weight is not finite."""

    sigma: Tensor
    resolution: float
    """max(m, n)·eps: what lies below this fraction of σ₁ is rounding, eps being that of the weight's own precision."""


@dataclass(frozen=True)
class Target:
    """One weight of a model: a parameter of `owner`, or `owner` itself where it is a structure (`parameter` empty)."""

    name: str
    owner: weakref.ref[nn.Module]
    parameter: str = ""

    def spectrum(self) -> Spectrum | None:
        """The spectrum of the weight as it is now; None if it is gone."""
        owner = self.owner()
        if owner is None:
            return None
        with torch.no_grad():
            structure = None if self.parameter else _as_structure(owner)
            if structure is not None:
                return _spectrum_of_structure(structure, list(owner.parameters()))
            weight = owner._parameters.get(self.parameter)
            return None if weight is None else _spectrum_of_matrix(as_matrix(weight.detach()))


def select(model: nn.Module, include: str | Iterable[str], exclude: str | Iterable[str] = ()) -> list[Target]:
    """The weights of a model whose name matches a pattern of `include` and none of `exclude`, each once.

    A structured weight at path `p` is called `p.weight`, and the parameters inside it are then not taken separately.
    What is tied is taken under the first of its names that matches. Biases and other vectors are left out.

    Raises:
        ValueError: nothing matches, only vectors do, or the model has yet to see its first batch (lazy modules).
    """
    included, excluded = _patterns("include", include), _patterns("exclude", exclude)

    def wanted(name: str) -> bool:
        return any(fnmatchcase(name, p) for p in included) and not any(fnmatchcase(name, p) for p in excluded)

    targets: list[Target] = []
    taken: set[int] = set()
    vectors: list[str] = []
    names: list[str] = []
    for path, module in _modules(model):
        if id(module) in taken:
            continue
        structured = _joined(path, "weight")
        if _as_structure(module) is not None and wanted(structured):
            taken |= {id(part) for part in (*module.modules(), *module.parameters())}
            targets.append(Target(structured, weakref.ref(module)))
            continue
        for key, weight in module._parameters.items():
            name = _joined(path, key)
            names.append(name)
            if weight is None or id(weight) in taken or not wanted(name):
                continue
            if is_lazy(weight):
                raise ValueError(f"every weight must have its shape, {name} is lazy; run one batch through the model")
            if weight.ndim < 2 or weight.numel() == 0:
                vectors.append(name)
                continue
            taken.add(id(weight))
            targets.append(Target(name, weakref.ref(module), key))
    if targets:
        return targets
    if vectors:
        raise ValueError(f"include must match a weight with 2 or more dimensions, only {_some(vectors)} matched")
    raise ValueError(f"include must match a weight of the model, {list(included)} matched none of {_some(names)}")


def as_matrix(weight: Tensor) -> Tensor:
    """A weight as a matrix (m×n): the first dimension by the product of the others.

    The kernel of a convolution (out, in/groups, k, k) becomes out × in/groups·k·k, a row per output channel, which is
    what multiplies the patches; that of a transposed one (in, out/groups, k, k) becomes in × out/groups·k·k.
    """
    return weight.reshape(weight.shape[0], -1)


def _spectrum_of_matrix(W: Tensor) -> Spectrum:
    # Not the Gram's eigenvalues, half the price: the tail of a matrix of rank 3 comes out as 1e-8·σ₁ each, and its
    # effective rank wrong by 1e-5 at 512×512.
    resolution = max(W.shape) * _eps(W.dtype)
    if not torch.isfinite(W).all():
        return Spectrum(_undefined(min(W.shape)), resolution)
    W = W.cpu() if W.device.type == "mps" else W  # there is no float64 there
    W = W.to(torch.complex128 if W.is_complex() else torch.float64)
    return Spectrum(torch.linalg.svdvals(W).cpu(), resolution)


def _spectrum_of_structure(structure: HasSingularValues, parts: Sequence[Tensor]) -> Spectrum:
    eps = max((_eps(part.dtype) for part in parts), default=_eps(torch.float64))
    shape = (structure.out_features, structure.in_features)
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        return Spectrum(_undefined(min(shape)), max(shape) * eps)
    return Spectrum(structure.singular_values().detach().to("cpu", torch.float64), max(shape) * eps)


def _as_structure(module: object) -> HasSingularValues | None:
    return module if isinstance(module, HasSingularValues) else None


def _undefined(r: int) -> Tensor:
    return torch.full((r,), torch.nan, dtype=torch.float64)


def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype if dtype.is_floating_point or dtype.is_complex else torch.float64).eps


def _modules(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module with its path from the root, wrappers left out; shared ones under each of their paths."""
    while True:
        if isinstance(model, DistributedDataParallel | DataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:  # torch.compile's, named so that dynamo need not be imported
            model = model.get_submodule("_orig_mod")
        else:
            break
    yield path, model
    for name, child in model._modules.items():  # not named_children(), which leaves out what is shared
        if child is not None:
            yield from _modules(child, _joined(path, name))


def _patterns(name: str, patterns: str | Iterable[str]) -> Sequence[str]:
    out = tuple(patterns) if isinstance(patterns, Iterable) and not isinstance(patterns, str) else (patterns,)
    if not all(isinstance(pattern, str) for pattern in out) or (name == "include" and not out):
        raise ValueError(f'{name} must be a pattern like "*.weight" or several, got {patterns!r}')
    return out


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "no parameter"
