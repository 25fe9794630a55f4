"""A population is its members, each trained alone, only sooner."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx import GraphModule

import laws
from rankscope.weights import MLP, Kronecker, LowRank, Member, Nonlinear, StructuredLinear, train_population
from rankscope.weights.members import Data, Split, folds, member_model, member_order, member_split
from rankscope.weights.stacked import started
from rankscope.weights.step import TRACE_AFTER, Adam

MEMBERS = [Member(0.003, 0), Member(0.03, 1), Member(0.03, 2), Member(0.01, 1)]


def data(n: int = 150, splits: tuple[Split, ...] = ()) -> Data:
    X = torch.randn(n, 12, generator=laws.generator(0))
    W = torch.randn(12, 4, generator=laws.generator(1))
    return Data(X, (X @ W).argmax(1), splits)


def kronecker() -> nn.Module:
    return nn.Sequential(StructuredLinear(Kronecker(20, 12, 2)), nn.ReLU(), StructuredLinear(LowRank(4, 20, 2)))


def nlmf() -> nn.Module:
    return nn.Sequential(StructuredLinear(Nonlinear(MLP(4), LowRank(8, 12, 2))), nn.ReLU(), nn.Linear(8, 4))


def batch_norm() -> nn.Module:
    return nn.Sequential(
        StructuredLinear(LowRank(20, 12, 3), bias=False), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 4)
    )


def alone(make_model, member: Member, given: Data, *, epochs: int, batch_size: int, cosine: bool = False):
    """The plain loop with torch's own Adam: train losses, validation accuracies and the trained model."""
    model, split = member_model(make_model, member), member_split(member, given)
    optimizer = torch.optim.Adam(model.parameters(), lr=member.learning_rate)
    steps = epochs * math.ceil(len(split.train) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)) if cosine else 1.0
    )
    losses, accuracies = [], []
    for epoch in range(epochs):
        total = 0.0
        model.train()
        for rows in split.train[member_order(member, epoch, len(split.train))].split(batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(given.X[rows]), given.y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        losses.append(total / len(split.train))
        model.eval()
        hits = model(given.X[split.validation]).argmax(1) == given.y[split.validation]
        accuracies.append(hits.float().mean().item())
    return losses, accuracies, model


@pytest.mark.parametrize("make_model", [kronecker, nlmf, batch_norm])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_member_trains_as_if_alone(make_model, schedule):
    given = data()
    result = train_population(make_model, MEMBERS, given, epochs=3, batch_size=32, schedule=schedule)
    for index, member in enumerate(MEMBERS):
        losses, accuracies, model = alone(
            make_model, member, given, epochs=3, batch_size=32, cosine=schedule == "cosine"
        )
        assert np.abs(result.train_loss[:, index] - losses).max() < 1e-5
        assert np.abs(result.validation_accuracy[:, index] - accuracies).max() < 1e-6
        for name, value in result.models.state_dict(index).items():
            assert torch.allclose(value, model.state_dict()[name], rtol=0, atol=1e-4)
        x = given.X[:7]
        assert torch.allclose(result.models.model(index).eval()(x), model(x), rtol=0, atol=1e-4)
        assert torch.allclose(result.models.outputs(x)[index], model(x), rtol=0, atol=1e-4)


def test_a_population_of_one_is_the_same_member():
    together = train_population(kronecker, MEMBERS, data(), epochs=2, batch_size=32)
    for index, member in enumerate(MEMBERS):
        single = train_population(kronecker, [member], data(), epochs=2, batch_size=32)
        assert np.abs(single.train_loss[:, 0] - together.train_loss[:, index]).max() < 1e-5
        assert np.abs(single.validation_loss[:, 0] - together.validation_loss[:, index]).max() < 1e-5


def test_it_learns():
    result = train_population(kronecker, MEMBERS, data(600), epochs=15, batch_size=32)
    assert (result.train_loss[-1] < 0.6 * result.train_loss[0])[1:3].all()
    assert (result.validation_accuracy[-1] > 0.7)[1:3].all()


def test_a_member_that_diverges_is_frozen_and_harms_no_other():
    reckless = [MEMBERS[0], Member(1e38, 7), *MEMBERS[1:]]
    result = train_population(kronecker, reckless, data(), epochs=3, batch_size=32)
    calm = train_population(kronecker, MEMBERS, data(), epochs=3, batch_size=32)
    others = [0, 2, 3, 4]
    assert list(result.diverged) == [-1, 0, -1, -1, -1]
    assert np.isnan(result.train_loss[:, 1]).all()
    assert np.isnan(result.validation_accuracy[:, 1]).all()
    assert np.abs(result.train_loss[:, others] - calm.train_loss).max() < 1e-5
    assert np.isfinite(result.validation_accuracy[:, others]).all()
    # Its parameters stay where they were before the step that failed.
    assert all(torch.isfinite(value).all() for value in result.models.state_dict(1).values())


def test_a_member_that_starts_with_nan_keeps_its_start():
    given = data()
    given.X[member_split(MEMBERS[0], given).train[0]] = float("inf")
    held = Split(*(rows[rows != member_split(MEMBERS[0], given).train[0]] for rows in folds(150, 2)[0]))
    poisoned = Split(torch.cat([held.train[1:], member_split(MEMBERS[0], given).train[:1]]), held.validation)
    given = Data(given.X, given.y, [held, poisoned])
    result = train_population(kronecker, [Member(0.01, 0, 0), Member(0.01, 0, 1)], given, epochs=1, batch_size=1000)
    assert list(result.diverged) == [-1, 0]
    start = member_model(kronecker, Member(0.01, 0)).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in result.models.state_dict(1).items())


def test_members_differ_in_start_order_and_split_by_their_seed_alone():
    given, (one, other) = data(), (Member(0.1, 1), Member(0.1, 2))
    same = Member(0.5, 1)
    for draw in (
        lambda m: member_model(kronecker, m)[0].structure.A,
        lambda m: member_split(m, given).train,
        lambda m: member_order(m, 0, 50),
    ):
        assert torch.equal(draw(one), draw(same))
        assert not torch.equal(draw(one), draw(other))
    assert not torch.equal(member_order(one, 0, 50), member_order(one, 1, 50))
    split = member_split(one, given)
    assert sorted(torch.cat([split.train, split.validation]).tolist()) == list(range(150))
    assert len(split.validation) == 30


def test_starting_a_member_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    train_population(kronecker, MEMBERS[:2], data(), epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_folds_are_equal_and_validate_every_row_once():
    parts = folds(23, 4)
    assert [len(part.train) for part in parts] == [15] * 4
    held_out = torch.cat([part.validation for part in parts])
    assert len(set(held_out.tolist())) == len(held_out) == 20
    for part in parts:
        assert not set(part.train.tolist()) & set(part.validation.tolist())


def test_members_can_share_folds():
    given = data(splits=tuple(folds(150, 3)))
    members = [Member(0.01, seed, fold) for seed in range(2) for fold in range(3)]
    result = train_population(kronecker, members, given, epochs=1, batch_size=32)
    losses, accuracies, _ = alone(kronecker, members[4], given, epochs=1, batch_size=32)
    assert abs(result.train_loss[0, 4] - losses[0]) < 1e-5
    assert abs(result.validation_accuracy[0, 4] - accuracies[0]) < 1e-6


def test_a_callback_sees_every_epoch():
    seen = []
    result = train_population(kronecker, MEMBERS, data(), epochs=3, on_epoch=seen.append)
    assert [epoch.index for epoch in seen] == [0, 1, 2]
    assert np.array_equal([epoch.train_loss for epoch in seen], result.train_loss)
    assert np.array_equal([epoch.validation_accuracy for epoch in seen], result.validation_accuracy)
    sigma = seen[-1].models.model(2)[0].structure.singular_values()
    assert sigma.shape == (12,)


def test_parameters_can_have_rates_of_their_own():
    start = member_model(kronecker, MEMBERS[1]).state_dict()
    tiny = {"*structure.A": 1e-9, "0.*": 1.0}
    result = train_population(kronecker, MEMBERS, data(), epochs=1, rates=tiny)
    moved = {name: float((value - start[name]).abs().max()) for name, value in result.models.state_dict(1).items()}
    assert moved["0.structure.A"] < 1e-8
    assert moved["0.structure.B"] > 1e-3
    assert moved["2.bias"] > 1e-3


def test_accuracy_on_other_data_is_each_members():
    given, result = data(), train_population(kronecker, MEMBERS, data(), epochs=1)
    accuracy = result.models.accuracy(given.X[:40], given.y[:40])
    for index in range(len(MEMBERS)):
        hits = result.models.model(index)(given.X[:40]).argmax(1) == given.y[:40]
        assert accuracy[index] == pytest.approx(hits.float().mean().item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": []}, "members must name at least one member, got none"),
        ({"members": [Member(0.0, 1)]}, "learning_rate must be a positive number, got 0.0"),
        ({"members": [Member(0.1, 1, 0)]}, "split must be in 0..-1, got 0"),
        ({"epochs": 0}, "epochs must be >= 1, got 0; raise it"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0; raise it"),
        ({"validation": 1.0}, "validation must lie between 0 and 1, got 1.0"),
        ({"schedule": "step"}, "schedule must be constant or cosine, got 'step'"),
        ({"rates": {"phi": 2.0}}, "rates must match parameters, got 'phi'; there are 0.bias"),
        ({"data": Data(torch.ones(3, 12), torch.ones(4))}, "X and y must have equally many rows, got 3 and 4"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    arguments = {"members": MEMBERS, "data": data(), "epochs": 1, **change}
    with pytest.raises(ValueError, match=message) as caught:
        train_population(kronecker, arguments.pop("members"), arguments.pop("data"), **arguments)
    assert "\n" not in str(caught.value)


def test_splits_of_different_sizes_are_refused():
    rows = torch.arange(150)
    given = data(splits=(Split(rows[:90], rows[90:]), Split(rows[:80], rows[80:])))
    with pytest.raises(ValueError, match=r"equally many train rows, got \[80, 90\]; cut them to 80"):
        train_population(kronecker, [Member(0.1, 0, 0), Member(0.1, 0, 1)], given, epochs=1)
    with pytest.raises(ValueError, match=r"k must be in 2..5 \(there are 5 rows\), got 6"):
        folds(5, 6)


def linear() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 9, bias=False), nn.Tanh(), nn.Linear(9, 7), nn.GELU(), StructuredLinear(LowRank(4, 7, 2))
    )


def own_function() -> nn.Module:
    return nn.Sequential(StructuredLinear(Nonlinear(torch.tanh, LowRank(8, 12, 2))), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("make_model", [kronecker, nlmf, linear, own_function])
def test_a_chain_gives_what_vmap_gives(make_model):
    given = data()
    models = started(make_model, MEMBERS, given.X)
    X, y = torch.stack([given.X[:30]] * len(MEMBERS)), torch.stack([given.y[:30]] * len(MEMBERS))
    routes = []
    for chain in (models.chain, None):
        assert (chain is None) == bool(routes)
        models.chain = chain
        theta = models.theta.clone().requires_grad_(True)
        losses = models.losses(theta, X, y)
        (gradient,) = torch.autograd.grad(losses.sum(), theta)
        routes.append((losses.detach(), gradient, models.outputs(given.X), models.outputs(X, shared=False)))
    for one, other in zip(*routes, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("make_model", "traced"), [(kronecker, True), (nlmf, True), (own_function, False)])
def test_a_chain_is_traced_unless_a_users_function_might_change(make_model, traced):
    given = data()
    models = started(make_model, MEMBERS, given.X)
    adam = Adam(models, MEMBERS, {})
    X, y = torch.stack([given.X[:30]] * len(MEMBERS)), torch.stack([given.y[:30]] * len(MEMBERS))
    for _ in range(TRACE_AFTER):
        adam.step(X, y, 1.0)
    gradient = adam._gradients.get(X.shape)
    assert isinstance(gradient, GraphModule) == traced
    if gradient is not None:
        for one, other in zip(gradient(models.theta, X, y), adam._gradient(models.theta, X, y), strict=True):
            assert torch.allclose(one, other, rtol=1e-6, atol=1e-7)


def test_a_model_that_is_no_chain_runs_under_vmap():
    assert started(batch_norm, MEMBERS, data().X).chain is None


def test_the_weights_of_all_members_are_theirs():
    models = started(linear, MEMBERS, data().X)
    weights = models.weights()
    assert {name: tuple(W.shape) for name, W in weights.items()} == {"0": (4, 9, 12), "2": (4, 7, 9), "4": (4, 4, 7)}
    for index in range(len(MEMBERS)):
        single = models.model(index)
        assert torch.allclose(weights["4"][index], single[4].weight, atol=1e-7)
        assert torch.equal(weights["0"][index], single[0].weight)


def test_without_validation_rows_there_are_no_validation_figures():
    rows = torch.arange(150)
    given = data(splits=(Split(rows, rows[:0]),))
    result = train_population(kronecker, [Member(0.01, 0, 0)], given, epochs=1)
    assert np.isnan(result.validation_accuracy).all()
    assert np.isfinite(result.train_loss).all()


def test_populations_side_by_side_start_as_they_do_alone():
    alone_first = started(kronecker, MEMBERS, data().X).theta
    with ThreadPoolExecutor(4) as pool:
        starts = list(pool.map(lambda _: started(kronecker, MEMBERS, data().X).theta, range(8)))
    assert all(torch.equal(theta, alone_first) for theta in starts)
