"""A product with a structure, or φ of its entries, as one step of autograd by compiled passes: for what is small.

There a layer's time is what its operations cost to call, and not their arithmetic. Two passes take their place, one
forward and one backward, each on as many cores as its arithmetic is worth. Whoever asks for more than a gradient, by
derivatives of derivatives or by transforming functions, is served by the operations themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._C import _is_tracing, _len_torch_dispatch_stack
from torch._C._functorch import is_batchedtensor, is_legacy_batchedtensor, peek_interpreter_stack
from torch.autograd import forward_ad

from rankscope import team
from rankscope.addresses import LIKE
from rankscope.compiled import Array
from rankscope.rooms import with_kept_room
from rankscope.weights.beside import Places, Sizes


class Passes(NamedTuple):
    """Both passes over a batch, for a structure of two parts P and Q of such sizes, or for φ with such parameters."""

    forward: Callable[[Array, Sizes, int, Places, int], int]
    """(like, sizes, batch, places, team), with the places of x, P, Q, b, y and what lies between, z. The last two are
    to be filled; b may be at 0: there is none. What is like them is room for the pass, which tells how much it takes
    (`rooms.with_kept_room`)."""
    backward: Callable[[Array, Sizes, int, Places, int], int]
    """The same with those of ∂y, x, z, P, Q, ∂x, ∂P, ∂Q and ∂b. The last four are to be filled; ∂x may be at 0."""
    made: Callable[[int, Sizes, int], tuple[tuple[int, int], int]]
    """(batch, sizes, itemsize): the shape of y, and how many numbers z has."""


Operations = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(x, P, Q, b) → y, by torch."""


class Route(NamedTuple):
    """A way to the product with P and Q: compiled passes, and the operations that they stand for."""

    passes: Passes
    operations: Operations
    sizes: Callable[[Tensor, Tensor, Tensor, Tensor | None], Sizes | None]
    """(x, P, Q, b): what there is to know of their shapes; nothing if they do not fit."""


def apply(route: Route, x: Tensor, P: Tensor, Q: Tensor, bias: Tensor | None) -> Tensor:
    """y (…, out) for x (…, in), by the passes where they can take it."""
    sizes = route.sizes(x, P, Q, bias) if _takes(x, P, Q, bias) else None
    if sizes is None:
        return route.operations(x, P, Q, bias)
    if x.ndim == 2:
        return _step((route, sizes), x, P, Q, bias)
    y = _step((route, sizes), x.reshape(-1, x.shape[-1]), P, Q, bias)
    return y.reshape(*x.shape[:-1], y.shape[-1])


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        (route, sizes), x, P, Q, bias = given
        X, p, q, b = x.contiguous(), P.contiguous(), Q.contiguous(), None if bias is None else bias.contiguous()
        batch, passes = x.shape[0], route.passes
        shape, between = passes.made(batch, sizes, x.itemsize)
        y, z = x.new_empty(*shape), x.new_empty(between)
        places = X.data_ptr(), p.data_ptr(), q.data_ptr(), 0 if b is None else b.data_ptr(), y.data_ptr(), z.data_ptr()
        with_kept_room(x.dtype, passes.forward, sizes, batch, places, team.size())
        ctx.how = given[0]
        ctx.save_for_backward(x, P, Q, bias, z)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, P, Q, bias, z = ctx.saved_tensors
        (route, sizes), (_, *needed) = ctx.how, ctx.needs_input_grad
        if torch.is_grad_enabled() or is_batchedtensor(gradients[0]) or is_legacy_batchedtensor(gradients[0]):
            return None, *_by_operations(route.operations, (x, P, Q, bias), needed, gradients[0])
        dY, X, p, q = gradients[0].contiguous(), x.contiguous(), P.contiguous(), Q.contiguous()
        dx, dP, dQ = torch.empty_like(X) if needed[0] else None, torch.empty_like(p), torch.empty_like(q)
        db = dY.new_empty(dY.shape[1])
        given = dY.data_ptr(), X.data_ptr(), z.data_ptr(), p.data_ptr(), q.data_ptr()
        found = 0 if dx is None else dx.data_ptr(), dP.data_ptr(), dQ.data_ptr(), db.data_ptr()
        with_kept_room(x.dtype, route.passes.backward, sizes, x.shape[0], (*given, *found), team.size())
        return None, dx, dP if needed[1] else None, dQ if needed[2] else None, db if needed[3] else None


_step = cast(Any, super(torch.autograd.Function, _Step)).apply
"""Without a look at transformed functions, which do not come here."""


def _by_operations(
    operations: Operations, inputs: Sequence[Any], needed: Sequence[bool], dY: Tensor
) -> list[Tensor | None]:
    """The gradients by operations, which have derivatives themselves, and take many ∂Y at once."""
    wanted: list[Any] = [tensor for tensor, needs in zip(inputs, needed, strict=True) if needs]
    x, P, Q, bias = inputs
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        y = operations(x, P, Q, bias)
    found = iter(torch.autograd.grad([y], wanted, [dY], create_graph=differentiable))
    return [next(found) if needs else None for needs in needed]


def _takes(x: Tensor, P: Tensor, Q: Tensor, bias: Tensor | None) -> bool:
    """Whether these are numbers in memory, and nothing but their product and its gradient is asked for."""
    kind = x.dtype
    return (
        kind in LIKE
        and kind is P.dtype is Q.dtype is (kind if bias is None else bias.dtype)
        and x.is_cpu
        and P.is_cpu
        and Q.is_cpu
        and (bias is None or bias.is_cpu)
        and type(x) in _PLAIN
        and type(P) in _PLAIN
        and x.numel() > 0
        and peek_interpreter_stack() is None
        and not _len_torch_dispatch_stack()
        and not torch.is_autocast_enabled("cpu")
        and forward_ad._current_level < 0
        and not _is_tracing()
        and not torch.compiler.is_compiling()
    )


_PLAIN = (Tensor, nn.Parameter)
