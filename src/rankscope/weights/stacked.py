"""Models of one architecture, stacked: all parameters of all members as one matrix θ (members × parameters).

Two routes lead from θ to the outputs. Any model runs under vmap. A chain of layers and elementwise functions, as most
are, runs as what it is: the weights of all members are formed, and a batched product with inputs that stand feature
first (members × features × batch) takes each layer. Feature first because then every product of the backward pass,
too, is one that BLAS does at full speed.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from rankscope.weights.linear import StructuredLinear
from rankscope.weights.members import MakeModel, Member, member_model
from rankscope.weights.nonlinear import Nonlinear
from rankscope.weights.structure import Structure

_LAYERS = (StructuredLinear, nn.Linear)
_ELEMENTWISE = (nn.ReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Identity)


class Models:
    """The members' models, stacked; θ moves while they train."""

    def __init__(self, template: nn.Module, theta: Tensor, buffers: Mapping[str, Tensor]) -> None:
        self.template, self.theta, self._buffers = template, theta, dict(buffers)
        self.names = [name for name, _ in template.named_parameters()]
        self.shapes = [parameter.shape for parameter in template.parameters()]
        self.chain = _chain(template)

    def __len__(self) -> int:
        return len(self.theta)

    def state_dict(self, member: int) -> dict[str, Tensor]:
        """The parameters and buffers of one member."""
        stacked = {**self.parameters(), **self._buffers}
        return {name: tensor[member].detach().clone() for name, tensor in stacked.items()}

    def model(self, member: int) -> nn.Module:
        """One member, as a model of its own."""
        single = copy.deepcopy(self.template)
        single.load_state_dict(self.state_dict(member), strict=False)
        return single

    @torch.no_grad()
    def outputs(self, X: Tensor, *, shared: bool = True) -> Tensor:
        """The outputs (members × …) for X, the same for all members or stacked, without training-time randomness."""
        training = self.template.training
        self.template.eval()
        try:
            if self.chain is not None and X.ndim == (2 if shared else 3):
                return self._chained(self.parameters(), X)
            return vmap(self._call, in_dims=(0, 0, None if shared else 0))(self.parameters(), self._buffers, X)
        finally:
            self.template.train(training)

    def accuracy(self, X: Tensor, y: Tensor) -> NDArray[np.float64]:
        """The share of X that each member classifies as y."""
        hits = self.outputs(X).argmax(-1) == y
        return hits.double().mean(1).cpu().numpy()

    def parameters(self) -> dict[str, Tensor]:
        """Each parameter, stacked (members × shape)."""
        return self._named(self.theta)

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """W of each StructuredLinear and nn.Linear layer by its name, stacked (members × out × in), formed."""
        parameters = self.parameters()
        layers = {name: module for name, module in self.template.named_modules() if type(module) in _LAYERS}
        return {name: self._weight(name, module, parameters).clone() for name, module in layers.items()}

    def losses(self, theta: Tensor, X: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of each member at θ on its own batch, X (members × batch × …), y (members × batch)."""
        parameters = self._named(theta)
        if self.chain is not None and X.ndim == 3:
            return cross_entropy(self._chained(parameters, X), y)
        run = vmap(self._call, in_dims=(0, 0, 0), randomness="different")
        return cross_entropy(run(parameters, self._buffers, X), y)

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split([shape.numel() for shape in self.shapes], dim=1)
        return {
            name: part.unflatten(1, shape) if len(shape) else part.squeeze(1)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.template, (parameters, buffers), (x,))

    def _chained(self, parameters: dict[str, Tensor], X: Tensor) -> Tensor:
        """The outputs (members × batch × classes) of a chain, for X (batch × in) or (members × batch × in)."""
        H = X.mT
        for name, module in self.chain or ():
            if type(module) not in _LAYERS:
                H = module(H)
                continue
            W, bias = self._weight(name, module, parameters), parameters.get(f"{name}.bias")
            if bias is not None and H.ndim == 3:
                H = torch.baddbmm(bias[..., None], W, H)
            else:
                H = W @ H if bias is None else W @ H + bias[..., None]
        return H.mT

    def _weight(self, name: str, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        if not isinstance(module, StructuredLinear):
            return parameters[f"{name}.weight"]
        own = _part({**parameters, **self._buffers}, f"{name}.structure.")
        return _matrices(module.structure, own)


def _matrices(structure: Structure, own: Mapping[str, Tensor]) -> Tensor:
    """W of each member (members × out × in) from the parameters and buffers of its structure, stacked."""
    if isinstance(structure, Nonlinear):
        return structure.phi.of_members(_part(own, "phi."), _matrices(structure.inner, _part(own, "inner.")))
    form = _Matrix(structure)
    stacked = {f"structure.{name}": tensor for name, tensor in own.items()}
    return vmap(lambda own: functional_call(form, own, ()))(stacked)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class _Matrix(nn.Module):
    """A structure's matrix as a forward pass, which is what functional_call calls."""

    def __init__(self, structure: Structure) -> None:
        super().__init__()
        self.structure = structure

    def forward(self) -> Tensor:
        return self.structure.matrix()


def started(make_model: MakeModel, members: Sequence[Member], X: Tensor) -> Models:
    """The members at their starts, on the device of X."""
    singles = [member_model(make_model, member).to(X.device) for member in members]
    parameters, buffers = stack_module_state(singles)
    theta = torch.cat([tensor.detach().flatten(1) for tensor in parameters.values()], dim=1)
    return Models(singles[0], theta, buffers)


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean over the batch, for each member: outputs (members × batch × classes), y (members × batch)."""
    return F.cross_entropy(outputs.transpose(1, -1), y, reduction="none").mean(1)


def _chain(template: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The modules of a chain of layers and elementwise functions by name; None for any other model."""
    if type(template) is not nn.Sequential:
        return None
    modules = list(template.named_children())
    # A module used twice has its parameters under its first name only.
    plain = len({id(module) for _, module in modules}) == len(modules) == len(template)
    return modules if plain and all(type(module) in (*_LAYERS, *_ELEMENTWISE) for _, module in modules) else None
