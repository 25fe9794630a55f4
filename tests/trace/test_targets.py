"""Which weights are found, under which names, and as which matrices."""

import pytest
import torch
from torch import nn

from rankscope.trace.targets import HasSingularValues, as_matrix, select
from rankscope.weights import MLP, LowRank, Nonlinear, StructuredLinear


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.twice = nn.ModuleList([nn.Linear(4, 4)] * 2)


def names(model, include="*", exclude=()):
    return [target.name for target in select(model, include, exclude)]


def test_tied_weights_and_shared_modules_are_taken_once_under_the_first_name_that_matches():
    model = Tied()
    assert names(model) == ["embedding.weight", "twice.0.weight"]
    assert names(model, "head.*") == ["head.weight"]
    assert names(model, "twice.1.*") == ["twice.1.weight"]


def test_patterns_include_and_exclude():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    assert names(model, ["0.*", "2.weight"]) == ["0.weight", "2.weight"]
    assert names(model, exclude="1.*") == ["0.weight", "2.weight"]
    assert names(model, "[01].weight", ("0.*",)) == ["1.weight"]


def test_vectors_are_left_out():
    assert names(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))) == ["0.weight"]


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Conv1d(3, 5, 4, bias=False), torch.randn(2, 3, 4)),
        (nn.Conv2d(3, 5, (2, 4), bias=False), torch.randn(2, 3, 2, 4)),
        (nn.Conv3d(2, 4, 2, bias=False), torch.randn(2, 2, 2, 2, 2)),
    ],
)
def test_the_matrix_of_a_convolution_multiplies_its_patches(layer, x):
    """Where the kernel covers all of the input there is one patch, and the convolution is that product."""
    W = as_matrix(layer.weight)
    assert W.shape[0] == layer.out_channels
    torch.testing.assert_close(x.flatten(1) @ W.mT, layer(x).flatten(1))


def test_the_matrix_of_a_transposed_convolution_makes_its_patches():
    layer = nn.ConvTranspose2d(3, 5, (2, 4), bias=False)
    x = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(x.flatten(1) @ as_matrix(layer.weight), layer(x).flatten(1))


def test_wrappers_leave_no_trace_in_the_names():
    inner = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3)))
    inner[1] = torch.compile(inner[1], backend="eager")
    for model in (inner, torch.compile(inner, backend="eager"), nn.DataParallel(inner)):
        assert names(model) == ["0.weight", "1.0.weight"]


def test_a_users_own_module_keeps_the_name_module():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    assert names(Own()) == ["module.weight"]


def test_structures_stand_for_all_inside_them():
    model = nn.Sequential(StructuredLinear(Nonlinear(MLP(4), LowRank(5, 6, 2))), nn.Linear(5, 3))
    assert isinstance(model[0].structure, HasSingularValues)
    assert not isinstance(model[1], HasSingularValues)
    assert names(model) == ["0.structure.weight", "1.weight"]
    assert names(model, "*.U") == ["0.structure.inner.U"]


def test_lazy_modules_are_refused_until_they_have_a_shape():
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ValueError, match=r"0.weight is lazy; run one batch"):
        select(model, "*")
    model(torch.randn(2, 5))
    assert names(model) == ["0.weight"]


def test_complex_integer_and_empty_weights():
    model = nn.Module()
    model.register_parameter("wave", nn.Parameter(torch.tensor([[3j, 0], [0, 4]])))
    model.register_parameter("whole", nn.Parameter(torch.tensor([[3, 0], [0, 4]]), requires_grad=False))
    model.register_parameter("empty", nn.Parameter(torch.empty(0, 4)))
    targets = select(model, "*")
    assert [target.name for target in targets] == ["wave", "whole"]
    for target in targets:
        assert target.spectrum().sigma.tolist() == pytest.approx([4, 3])
