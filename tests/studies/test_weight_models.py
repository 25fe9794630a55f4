"""The catalogue has the brief's models exactly, and says what is wrong with a name."""

import pytest
import torch

from rankscope.studies.weight_models import KINDS, LEADERBOARD, weight_models


def test_the_briefs_four_have_the_briefs_parameters_and_figures():
    models = weight_models(["dense", "low-rank", "nlmf", "kronecker"])
    assert [model.num_parameters for model in models] == [5110, 2110, 1208, 320]
    assert [model.published for model in models] == [70.65, 59.55, 46.35, 53.0]
    assert [sum(p.numel() for p in model.build().parameters()) for model in models] == [5110, 2110, 1208, 320]


def test_published_figures_belong_to_the_briefs_shapes_alone():
    assert [m.published for m in weight_models(["low-rank-4", "dense-23", "kroneckerx50"])] == [None] * 3
    assert weight_models(["dense"], hidden=50)[0].published is None
    assert weight_models(["dense"], depth=2)[0].published is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_builds_and_maps_inputs_to_classes(kind):
    (model,) = weight_models([kind])
    assert model.build()(torch.randn(3, 40)).shape == (3, 10)
    assert model.flops > 0


def test_the_leaderboard_is_within_the_budgets_it_names():
    sizes = {model.name: model.num_parameters for model in weight_models(["all"])}
    assert len(sizes) == len(LEADERBOARD)
    assert all(size <= 2112 or name == "dense" for name, size in sizes.items())
    assert sum(size <= 320 for size in sizes.values()) >= 6


def test_names_say_size_and_width_and_options_fill_in():
    (model,) = weight_models(["kronecker-3x256"], hidden=50)
    assert (model.size, model.shapes) == (3, [(256, 40), (10, 256)])
    (model,) = weight_models(["low-rank-4"], hidden=50, depth=2, activation="tanh")
    assert (model.name, model.shapes) == ("low-rank-4x50", [(50, 40), (50, 50), (10, 50)])
    assert isinstance(model.build()[1], torch.nn.Tanh)
    assert weight_models(["dense-23"])[0].shapes == [(23, 40), (10, 23)]


@pytest.mark.parametrize("budget", [400, 1208, 2110])
def test_a_budget_is_kept_and_nearly_used_up(budget):
    for model in weight_models(["dense", "low-rank", "kronecker"], budget=budget):
        assert 0.75 * budget <= model.num_parameters <= budget
        assert model.name.endswith(f"@{budget}")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["fourrier"], {}, "got 'fourrier'; KIND is one of dense, low-rank"),
        (["low-rank-0"], {}, "sizes of models must be >= 1, got 'low-rank-0'"),
        (["low-rank-41"], {}, "the size of low-rank-41 must be in 1..40"),
        (["kroneckerx7"], {"inputs": 41}, "model kroneckerx7: a Kronecker product needs a size of W that factors"),
        (["low-rank"], {"budget": 300}, "the budget must be at least 360 parameters"),
        (["dense"], {"budget": 60}, "the budget must be at least 61 parameters for a dense model, got 60"),
        ([], {}, "models must name at least one"),
    ],
)
def test_what_cannot_be_is_one_clear_line(names, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        weight_models(names, **options)
    assert "\n" not in str(caught.value)
