"""A product with a structure as one step of autograd, by compiled passes: for layers whose products are small.

There a layer's time is what its operations cost to call, and not their arithmetic. Two passes take their place, one
forward and one backward, each on as many cores as its arithmetic is worth. Whoever asks for more than a gradient, by
derivatives of derivatives or by transforming functions, is served by the operations themselves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from rankscope import team
from rankscope.compiled import Array

class Passes(NamedTuple):
    """Both passes over a batch, for a structure of two parts P and Q."""

    forward: Callable[[Array, Array, Array, Array, Array, int], Array]
    """(X, P, Q, b, Y, team): writes Y and returns what lies between."""
    backward: Callable[[Array, Array, Array, Array, Array, Array, int], tuple[Array, Array, Array]]
    """(∂Y, X, between, P, Q, ∂X, team): writes ∂X, where it is of any size, and returns ∂P, ∂Q and ∂b."""


Operations = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(X, P, Q, b) → Y, by torch."""


class Route(NamedTuple):
    """A way to the product with P and Q: compiled passes, and the operations that they stand for."""

    passes: Passes
    operations: Operations


def apply(route: Route, out: int, x: Tensor, P: Tensor, Q: Tensor, bias: Tensor | None) -> Tensor:
    """Y (…, out) for x (…, in), by the passes where they can take it."""
    if not _takes(x, P, Q, bias):
        return route.operations(x, P, Q, bias)
    if x.ndim == 2:
        return _Step.apply(route, out, x, P, Q, bias)
    return _Step.apply(route, out, x.reshape(-1, x.shape[-1]), P, Q, bias).view(*x.shape[:-1], out)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, route: Route, out: int, x: Tensor, P: Tensor, Q: Tensor, bias: Tensor | None) -> Tensor:
        Y = x.new_empty(len(x), out)
        b = x.new_zeros(out) if bias is None else bias
        X, p, q, shift, written = _numbers(x), _numbers(P), _numbers(Q), _numbers(b), Y.numpy()
        between = torch.from_numpy(route.passes.forward(X, p, q, shift, written, team.size()))
        ctx.route, ctx.has_bias = route, bias is not None
        ctx.save_for_backward(x, P, Q, b, between)
        return Y

    @staticmethod
    def backward(ctx: Any, dY: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable(ctx, dY)
        x, P, Q, _, between = ctx.saved_tensors
        dX = x.new_empty(x.shape if ctx.needs_input_grad[2] else (0, 0))
        given = _numbers(dY), _numbers(x), between.numpy(), _numbers(P), _numbers(Q), dX.numpy()
        dP, dQ, db = map(torch.from_numpy, ctx.route.passes.backward(*given, team.size()))
        return None, None, dX if dX.numel() else None, dP, dQ, db if ctx.has_bias else None


def _numbers(tensor: Tensor) -> Array:
    return tensor.numpy() if tensor.is_contiguous() else tensor.contiguous().numpy()


def _differentiable(ctx: Any, dY: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients by operations that have derivatives themselves."""
    x, P, Q, b, _ = ctx.saved_tensors
    needed = ctx.needs_input_grad[2:]
    inputs = (x, P, Q, b if ctx.has_bias else None)
    wanted = [tensor for tensor, needs in zip(inputs, needed, strict=True) if needs]
    found = iter(torch.autograd.grad(ctx.route.operations(*inputs), wanted, dY, create_graph=True))
    return None, None, *(next(found) if needs else None for needs in needed)


def _takes(x: Tensor, P: Tensor, Q: Tensor, bias: Tensor | None) -> bool:
    """Whether these are numbers in memory, and nothing but their product and its gradient is asked for."""
    kind = x.dtype
    return (
        (kind is torch.float32 or kind is torch.float64)
        and kind is P.dtype
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
