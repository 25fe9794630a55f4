"""One step of Adam on every member of a stack, each at a rate of its own.

The gradient is traced once into a flat list of operations for each shape of batch, which saves what Python, autograd
and vmap cost a step; a model that cannot be traced safely runs as it is.

Reference: Kingma & Ba 2015, arXiv:1412.6980.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from rankscope.weights.members import Member, global_generator
from rankscope.weights.phi import Function
from rankscope.weights.stacked import Models

Gradient = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(θ, X, y) → the members' losses, and the gradient of their sum."""
TRACE_AFTER = 8
"""Steps of one shape before it is traced: a short training is over before tracing pays."""


class Adam:
    """Adam on θ (members × parameters) with a rate for each member and a factor for each parameter.

    A member whose loss or whose next θ is no longer finite stays where it is from then on.
    """

    def __init__(self, models: Models, members: Sequence[Member], rates: Mapping[str, float]) -> None:
        self.models, theta = models, models.theta
        rate = torch.tensor([[member.learning_rate] for member in members], dtype=torch.float64)
        self._rate = rate.to(theta) * _rate_factors(models, rates)
        self._m, self._v, self._t = torch.zeros_like(theta), torch.zeros_like(theta), 0
        self._root, self._spare = torch.empty_like(theta), torch.empty_like(theta)
        self.alive = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
        # Nothing in a chain depends on values or on randomness, unless a user's own function does.
        self._traceable = models.chain is not None and not any(
            isinstance(module, Function) for module in models.template.modules()
        )
        self._gradients: dict[torch.Size, Gradient] = {}
        self._seen: dict[torch.Size, int] = {}

    def step(self, X: Tensor, y: Tensor, factor: float) -> Tensor:
        """One step on every member's own batch; the losses before it."""
        theta = self.models.theta
        losses, gradient = self._gradient_for(X, y)(theta, X, y)
        with torch.no_grad():
            self._t += 1
            beta1, beta2 = 0.9, 0.999
            size1, size2 = 1 - beta1**self._t, (1 - beta2**self._t) ** 0.5
            self._m.lerp_(gradient, 1 - beta1)
            self._v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            # m̂/(√v̂ + ε), both bias corrections taken out of the elementwise part.
            update = torch.sqrt(self._v, out=self._root).add_(1e-8 * size2)
            torch.div(self._m, update, out=update)
            moved = torch.addcmul(theta, update, self._rate, value=-factor * size2 / size1, out=self._spare)
            # A sum is finite only if all of its terms are.
            self.alive &= losses.isfinite() & moved.sum(1).isfinite()
            if not self.alive.all():
                torch.where(self.alive[:, None], moved, theta, out=moved)
            self.models.theta, self._spare = moved, theta
        return losses.double()

    def _gradient_for(self, X: Tensor, y: Tensor) -> Gradient:
        self._seen[X.shape] = self._seen.get(X.shape, 0) + 1
        if self._traceable and self._seen[X.shape] == TRACE_AFTER:
            self._gradients[X.shape] = self._traced(X, y)
        return self._gradients.get(X.shape, self._gradient)

    def _gradient(self, theta: Tensor, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        theta = theta.detach().requires_grad_(True)
        losses = self.models.losses(theta, X, y)
        (gradient,) = torch.autograd.grad(losses.sum(), theta)
        return losses.detach(), gradient

    def _traced(self, X: Tensor, y: Tensor) -> Gradient:
        def gradient(theta: Tensor, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return self._gradient(theta, X, y)

        try:
            with global_generator:  # One thread at a time: tracing is not written for several.
                return _slim(make_fx(gradient)(self.models.theta, X, y))
        except Exception:  # noqa: BLE001  (slower, and as right)
            return self._gradient


def _slim(graph: GraphModule) -> GraphModule:
    """The same without the operations that only hand on what they are given: each costs Python a microsecond a step."""
    aten = torch.ops.aten
    for node in list(graph.graph.nodes):
        if node.target in (aten.detach.default, aten.expand.default, aten.view.default, aten._unsafe_view.default):
            given, made = node.args[0].meta.get("val"), node.meta.get("val")
            if isinstance(given, Tensor) and isinstance(made, Tensor) and given.shape == made.shape:
                node.replace_all_uses_with(node.args[0])
                graph.graph.erase_node(node)
    graph.recompile()
    return graph


def _rate_factors(models: Models, rates: Mapping[str, float]) -> Tensor:
    """The factor on the rate of each entry of θ (1 × parameters)."""
    for pattern in rates:
        if not any(fnmatchcase(name, pattern) for name in models.names):
            raise ValueError(f"rates must match parameters, got {pattern!r}; there are {', '.join(models.names)}")
    parts = []
    for name, shape in zip(models.names, models.shapes, strict=True):
        factor = next((value for pattern, value in rates.items() if fnmatchcase(name, pattern)), 1.0)
        parts.append(torch.full((shape.numel(),), factor))
    return torch.cat(parts).to(models.theta)[None]
