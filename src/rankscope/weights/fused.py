"""A product with a structure as one step of autograd, by compiled passes: for layers whose products are small.

There a layer's time is what its operations cost to call, and not their arithmetic. Two passes take their place, one
forward and one backward, each on as many cores as its arithmetic is worth. Whoever asks for more than a gradient, by
derivatives of derivatives or by transforming functions, is served by the operations themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from rankscope import team
from rankscope.compiled import Array


class Passes(NamedTuple):
    """Both passes over a batch, for a structure of two parts P and Q."""

    forward: Callable[[Array, Array, Array, Array, Array, Array, int], None]
    """(X, P, Q, b, Y, Z, team): Y and what lies between, Z, are to be filled."""
    backward: Callable[[Array, Array, Array, Array, Array, Array, Array, Array, Array, int], None]
    """(∂Y, X, Z, P, Q, ∂X, ∂P, ∂Q, ∂b, team): the gradients are to be filled; ∂X has no rows if it is not wanted."""
    between: Callable[[int, Array, Array], tuple[int, ...]] | None
    """The shape of Z for so many vectors, P and Q; None where that is W."""


Operations = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(X, P, Q, b) → Y, by torch."""


class Route(NamedTuple):
    """A way to the product with P and Q: compiled passes, and the operations that they stand for."""

    passes: Passes
    operations: Operations
    shape: Callable[[Any, Any], tuple[int, int]]
    """Of W, for P and Q."""


def apply(route: Route, x: Tensor, P: Tensor, Q: Tensor, bias: Tensor | None) -> Tensor:
    """Y (…, out) for x (…, in), by the passes where they can take it."""
    if not _takes(x, P, Q, bias):
        return route.operations(x, P, Q, bias)
    if x.ndim == 2:
        return _Step.apply(route, x, P, Q, bias)
    Y = _Step.apply(route, x.reshape(-1, x.shape[-1]), P, Q, bias)
    return Y.reshape(*x.shape[:-1], Y.shape[-1])


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        route, x, P, Q, bias = given
        ctx.route = route
        X, p, q = _numbers(x), _numbers(P), _numbers(Q)
        (fill, _, between), shape = route.passes, route.shape(p, q)
        Y, Z = x.new_empty((len(X), shape[0])), x.new_empty(between(len(X), p, q) if between else shape)
        b = np.zeros(shape[0], X.dtype) if bias is None else _numbers(bias)
        fill(X, p, q, b, Y.numpy(), Z.numpy(), team.size())
        ctx.save_for_backward(x, P, Q, bias, Z)
        return Y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (dY,) = gradients
        x, P, Q, bias, Z = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_differentiable(ctx.route.operations, (x, P, Q, bias), needed, dY)
        given = _numbers(dY), _numbers(x), Z.numpy(), _numbers(P), _numbers(Q)
        _, X, _, p, q = given
        shapes = X.shape if needed[0] else (0, X.shape[1]), p.shape, q.shape, dY.shape[1]
        found = [np.empty(shape, X.dtype) for shape in shapes]
        ctx.route.passes.backward(*given, *found, team.size())
        return None, *(torch.from_numpy(part) if needs else None for part, needs in zip(found, needed, strict=True))


def _differentiable(
    operations: Operations, inputs: tuple[Any, Any, Any, Any], needed: Sequence[bool], dY: Tensor
) -> list[Tensor | None]:
    """The gradients by operations that have derivatives themselves."""
    wanted: list[Any] = [tensor for tensor, needs in zip(inputs, needed, strict=True) if needs]
    found = iter(torch.autograd.grad([operations(*inputs)], wanted, [dY], create_graph=True))
    return [next(found) if needs else None for needs in needed]


def _numbers(tensor: Tensor) -> Array:
    return tensor.numpy() if tensor.is_contiguous() else tensor.contiguous().numpy()


def _takes(x: Tensor, P: Tensor, Q: Tensor, bias: Tensor | None) -> bool:
    """Whether these are numbers in memory, and nothing but their product and its gradient is asked for."""
    kind = x.dtype
    return (
        (kind is torch.float32 or kind is torch.float64)
        and kind is P.dtype is Q.dtype is (kind if bias is None else bias.dtype)
        and x.is_cpu
        and type(x) in _PLAIN
        and type(P) in _PLAIN
        and x.numel() > 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._len_torch_dispatch_stack()
        and not torch.is_autocast_enabled("cpu")
        and forward_ad._current_level < 0
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


_PLAIN = (Tensor, nn.Parameter)
