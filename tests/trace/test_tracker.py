"""Laws of the tracker: its numbers are those of the weights, and the training does not notice it."""

import gc
import logging
import tracemalloc
import warnings
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import rankscope
from rankscope import metrics
from rankscope.trace import PlateauDetector, RankTracker, schedule
from rankscope.weights import Kronecker, LowRank, Monarch, StructuredLinear

ALL = {"every": 1, "max_overhead": 1.0}
NAMES = ["effective_rank", "nuclear_over_operator", "stable_rank", "participation_ratio", "numerical_rank"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def network(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 6, 3, groups=2), nn.Flatten(), nn.Linear(24, 9), nn.Tanh(), nn.Linear(9, 4, bias=False)
    return nn.Sequential(*layers).to(dtype)


def train(model, steps=3, *, optimizer=None, after=lambda: None, shape=(2, 4, 4)):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-2)
    dtype = next(model.parameters()).dtype
    X = torch.randn(8, *shape, generator=seeded(1)).to(dtype)
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
        after()


def by_hand(W, top_k=5):
    """The numbers of one row by LAPACK and the definitions."""
    s = torch.linalg.svdvals(W.detach().double().flatten(1)).numpy()
    p = s[s > 0] / s.sum()
    eps = torch.finfo(W.dtype).eps
    values = {
        "effective_rank": np.exp(-np.sum(p * np.log(p))),
        "nuclear_over_operator": s.sum() / s[0],
        "stable_rank": np.sum(s**2) / s[0] ** 2,
        "participation_ratio": np.sum(s**2) ** 2 / np.sum(s**4),
        "numerical_rank": np.sum(s > max(W.shape[0], W[0].numel()) * eps * s[0]),
    }
    return values | {f"sigma_{i}": s[i - 1] if i <= len(s) else np.nan for i in range(1, top_k + 1)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_number_is_that_of_the_weight_at_its_step(dtype):
    model, wanted = network(dtype=dtype), []

    def remember():
        wanted.extend(by_hand(W) for W in (model[0].weight, model[2].weight, model[4].weight))

    remember()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with RankTracker(model, optimizer, **ALL) as tracker:
        train(model, 4, optimizer=optimizer, after=remember)
    frame = tracker.history
    assert list(frame.columns) == ["step", "seconds", "layer", *NAMES, "moved", *(f"sigma_{i}" for i in range(1, 6))]
    assert list(frame["step"]) == [step for step in range(5) for _ in range(3)]
    assert list(frame["layer"]) == ["0.weight", "2.weight", "4.weight"] * 5
    assert frame["seconds"].is_monotonic_increasing
    for name in [*NAMES, "sigma_1", "sigma_5"]:
        np.testing.assert_allclose(frame[name], [row[name] for row in wanted], rtol=1e-6, err_msg=name)
    assert np.isnan(frame["sigma_5"][2])  # the last layer has four


def test_low_rank_weights_keep_their_digits():
    """Where the eigenvalues of a Gram would be wrong by 1e-5: the tail of an exactly low rank."""
    layer = nn.Linear(512, 512, bias=False, dtype=torch.float64)
    with torch.no_grad():
        left, right = (torch.randn(*s, dtype=torch.float64, generator=seeded(0)) for s in ((512, 3), (3, 512)))
        layer.weight.copy_(left @ right)
    row = RankTracker(layer, **ALL).history.iloc[0]
    small = torch.linalg.svdvals(torch.linalg.qr(left).R @ torch.linalg.qr(right.mT).R.mT)
    assert row["effective_rank"] == pytest.approx(float(metrics.effective_rank.of_spectrum(small)), rel=1e-6)
    assert row["numerical_rank"] == 3


def test_moved_is_the_distance_of_the_spectrum_from_where_it_began():
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.diag(torch.tensor([4.0, 3.0, 0.0])))
    tracker = RankTracker(model, **ALL)
    with torch.no_grad():
        model.weight.copy_(torch.diag(torch.tensor([4.0, 6.0, 4.0])))
    tracker.step()
    assert list(tracker.history["moved"]) == pytest.approx([0.0, np.sqrt(4 + 1 + 16) / 5])


def test_structures_are_asked_and_not_taken_apart():
    structures = [LowRank(12, 20, 3), Kronecker(12, 20, 1), Monarch(12, 20)]
    model = nn.Sequential(*(StructuredLinear(s, generator=seeded(i)) for i, s in enumerate(structures)))
    tracker = RankTracker(model, include="*.weight", **ALL)
    assert tracker.layers == tuple(f"{i}.structure.weight" for i in range(3))
    for (_, row), structure in zip(tracker.history.iterrows(), structures, strict=True):
        wanted = by_hand(structure.matrix())
        for name in ["effective_rank", "nuclear_over_operator", "stable_rank", "participation_ratio", "sigma_1"]:
            assert row[name] == pytest.approx(wanted[name], rel=1e-5)  # the structures' own float32 products differ
    assert tracker.history["numerical_rank"][0] == 3
    assert RankTracker(model, include="*.U", **ALL).layers == ("0.structure.U",)
    assert RankTracker(LowRank(5, 4, 2), **ALL).layers == ("weight",)


def test_measures_may_be_replaced():
    measures = {"rank": metrics.numerical_rank, "nuclear": lambda sigma: sigma.sum(-1), "stable": metrics.stable_rank}
    model = nn.Linear(4, 3)
    tracker = RankTracker(model, measures=measures, top_k=1, **ALL)
    assert list(tracker.history.columns) == [
        "step",
        "seconds",
        "layer",
        "rank",
        "nuclear",
        "stable",
        "moved",
        "sigma_1",
    ]
    tracker.step()
    assert tracker.plateaus == {"weight": ()}  # without an effective rank there are none, and no failure either
    assert not tracker.failure


def test_training_is_the_same_to_the_last_bit():
    watched, free = network(), network()
    optimizer = torch.optim.Adam(watched.parameters(), lr=1e-2)
    with RankTracker(watched, optimizer, **ALL):
        train(watched, 5, optimizer=optimizer)
    train(free, 5)
    for a, b in zip(watched.parameters(), free.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.grad, b.grad)


def test_the_hook_is_removed_and_nothing_recorded_after():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with RankTracker(model, optimizer, **ALL) as tracker:
        assert len(optimizer._optimizer_step_post_hooks) == 1
        train(model, 2, optimizer=optimizer)
    assert not optimizer._optimizer_step_post_hooks
    train(model, 2, optimizer=optimizer)
    tracker.step()
    tracker.record()
    assert sorted(set(tracker.history["step"])) == [0, 1, 2]


def test_errors_of_the_training_pass_through_and_remove_the_hook():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyError, match="mine"), RankTracker(model, optimizer):
        raise KeyError("mine")
    assert not optimizer._optimizer_step_post_hooks


def test_a_schedule_decides_and_record_overrules_it():
    model = nn.Linear(3, 2)
    tracker = RankTracker(model, every=lambda step: step in {3, 5}, max_overhead=1.0)
    for _ in range(7):
        tracker.step()
    tracker.record()
    tracker.record()  # the same step again
    assert list(tracker.history["step"]) == [3, 5, 7]
    assert tracker.thinned == 0


class Clock:
    """Time that passes only when told, and `cost` at every singular value decomposition."""

    def __init__(self, monkeypatch, cost):
        self.now = 0.0
        svdvals = torch.linalg.svdvals

        def slow(A):
            self.now += cost
            return svdvals(A)

        monkeypatch.setattr(schedule.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch.linalg, "svdvals", slow)


@pytest.mark.parametrize(("step_seconds", "passes"), [(0.01, True), (5.0, False)])
def test_the_budget_thins_the_schedule_and_says_so_once(monkeypatch, step_seconds, passes):
    clock = Clock(monkeypatch, cost=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = nn.Linear(3, 2)
        tracker = RankTracker(model, every=1, max_overhead=0.05)
        for _ in range(4000):
            clock.now += step_seconds
            tracker.step()
    warned = [warning for warning in said if "max_overhead" in str(warning.message)]
    messages = [str(warning.message) for warning in warned]
    assert all(warning.filename == __file__ for warning in warned)
    rows = len(tracker.history)
    assert tracker.overhead <= 0.05
    assert tracker.thinned == 4001 - rows
    if passes:
        assert rows == pytest.approx(0.05 * clock.now / 0.1, abs=2)  # all that is allowed
        assert len(messages) == 1
        assert "5% of the time" in messages[0]
    else:
        assert rows == 4001  # 0.1 s in 5.1 s is affordable from the second on
        assert not messages


def tensors():
    """All there are, by identity."""
    gc.collect()
    return {id(thing): thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)}


def test_no_graph_is_kept_and_grad_mode_is_left_alone():
    model = network()
    tracker = RankTracker(model, **ALL)
    before = tensors()  # What other tests left may go at any time: it is held here, and only what is new counts.
    for _ in range(5):
        tracker.step()
    assert tensors().keys() <= before.keys()
    assert all(not sigma.requires_grad and sigma.grad_fn is None for sigma in tracker._history._first.values())
    assert torch.is_grad_enabled()
    assert len(tracker.history) == 18


def test_a_deleted_model_is_not_kept_alive_and_ends_the_recording_quietly():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = RankTracker(model, optimizer, **ALL)
    train(model, 2, optimizer=optimizer)
    gone = weakref.ref(model), weakref.ref(model[2])
    weight = weakref.ref(model[2].weight)
    del model
    optimizer.step()  # it still holds the parameters
    del optimizer
    gc.collect()
    assert [ref() for ref in (*gone, weight)] == [None, None, None]
    tracker.step()
    assert len(tracker.history) == 9
    assert not tracker.failure


def test_a_replaced_weight_is_followed_and_a_removed_one_left_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tracker = RankTracker(model, **ALL)
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()}, assign=True)
    tracker.step()
    del model[1]
    gc.collect()
    tracker.step()
    frame = tracker.history
    assert list(frame["layer"]) == ["0.weight", "1.weight", "0.weight", "1.weight", "0.weight"]
    assert frame["sigma_1"][2] == pytest.approx(2 * frame["sigma_1"][0], rel=1e-6)


def test_compiled_models_keep_bare_names():
    model = network()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    with RankTracker(compiled, optimizer, **ALL) as tracker:
        train(compiled, 2, optimizer=optimizer)
    assert tracker.layers == ("0.weight", "2.weight", "4.weight")
    assert list(tracker.history["sigma_1"][-3:]) == pytest.approx(
        [by_hand(W)["sigma_1"] for W in (model[0].weight, model[2].weight, model[4].weight)], rel=1e-6
    )


def test_a_compiled_training_step_may_hold_the_hook():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = RankTracker(model, optimizer, **ALL)

    @torch.compile(backend="eager")
    def step(X):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()

    for _ in range(3):
        step(torch.ones(2, 4))
    assert list(tracker.history["step"]) == [0, 1, 2, 3]
    assert tracker.history["sigma_1"].is_unique


def test_distributed_models_keep_bare_names(tmp_path):
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("needs torch.distributed with gloo")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        model = network()
        parallel = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
        with RankTracker(parallel, optimizer, include="*.weight", **ALL) as tracker:
            train(parallel, 2, optimizer=optimizer)
        both = RankTracker(torch.compile(parallel, backend="eager"), **ALL)
    finally:
        distributed.destroy_process_group()
    assert tracker.layers == both.layers == ("0.weight", "2.weight", "4.weight")
    assert tracker.history["sigma_1"].iloc[-1] == pytest.approx(by_hand(model[4].weight)["sigma_1"], rel=1e-6)


def test_weights_that_are_not_finite_get_a_row_of_nan():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), LowRank(4, 2, 1))
    tracker = RankTracker(model, **ALL)
    with torch.no_grad():
        model[0].weight[1, 2] = torch.nan
        model[2].U[0, 0] = torch.inf
    tracker.step()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    tracker.step()
    frame = tracker.history.set_index(["step", "layer"])
    numbers = [*NAMES, "moved", "sigma_1"]
    assert frame.loc[(1, "0.weight"), numbers].isna().all()
    assert frame.loc[(1, "2.weight"), numbers].isna().all()
    assert frame.loc[(1, "1.weight"), numbers].notna().all()
    assert frame.loc[(2, "0.weight"), "effective_rank"] == pytest.approx(1.0)
    assert not tracker.failure


class Failing:
    def __init__(self, after):
        self.calls, self.after = 0, after

    def add_scalar(self, tag, scalar_value, global_step):
        self.calls += 1
        if self.calls > self.after:
            raise OSError("disk full")


def test_a_tracker_that_fails_warns_once_and_lets_the_training_go_on():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = RankTracker(model, optimizer, writer=Failing(after=40), **ALL)
    with pytest.warns(RuntimeWarning, match=r"stopped recording at step 1.*OSError: disk full") as said:
        train(model, 5, optimizer=optimizer)
    assert len(said) == 1
    assert said[0].filename == __file__  # where the training is, though torch calls the tracker
    assert tracker.failure == "OSError: disk full"
    assert set(tracker.history["step"]) == {0, 1}
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("broken", ["schedule", "measure", "detector", "structure"])
def test_whatever_fails_is_contained_even_where_warnings_are_errors(broken, caplog):
    def fail(*_, **__):
        raise ZeroDivisionError

    class Broken(PlateauDetector):
        update = fail

    class Structure(LowRank):
        singular_values = fail

    settings = {
        "schedule": {"every": fail},
        "measure": {"every": 1, "measures": {"effective_rank": fail}},
        "detector": {"every": 1, "detector": Broken},
        "structure": {"every": 1},
    }[broken]
    model = Structure(4, 3, 1) if broken == "structure" else nn.Linear(3, 2)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        tracker = RankTracker(model, max_overhead=1.0, **settings)
        tracker.step()
        tracker.record()
    assert "ZeroDivisionError" in tracker.failure
    assert len(caplog.records) == 1
    assert len(tracker.history) == (1 if broken == "detector" else 0)


def test_a_writer_gets_every_finite_number():
    seen = []

    class Writer:
        def add_scalar(self, tag, scalar_value, global_step):
            seen.append((tag, scalar_value, global_step))

    model = nn.Linear(4, 3)
    tracker = RankTracker(model, writer=Writer(), **ALL)
    tracker.step()
    frame = tracker.history
    wanted = [
        (f"{name}/weight", row[name], row["step"])
        for _, row in frame.iterrows()
        for name in frame.columns[3:]
        if not np.isnan(row[name])
    ]
    assert seen == wanted
    assert len(seen) == 2 * (5 + 1 + 3)  # three of the five singular values exist


def test_the_history_survives_a_file(tmp_path):
    model = network()
    tracker = RankTracker(model, **ALL)
    tracker.step()
    tracker.to_csv(tmp_path / "layers.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "layers.csv", float_precision="round_trip"), tracker.history, check_dtype=False
    )


def test_memory_grows_by_the_rows_only():
    model = nn.Linear(8, 6)
    tracker = RankTracker(model, every=lambda step: step % 2 == 0 and step <= 4000, max_overhead=1.0)
    bytes_per_row = 8 * len(tracker.history.columns)

    def grown(steps):
        before = tracemalloc.take_snapshot()
        for _ in range(steps):
            tracker.step()
        gc.collect()
        return sum(change.size_diff for change in tracemalloc.take_snapshot().compare_to(before, "filename"))

    for _ in range(1000):
        tracker.step()
    tracemalloc.start()
    try:
        with_rows, without = grown(3000), grown(3000)
    finally:
        tracemalloc.stop()
    assert len(tracker.history) == 2001
    # Twice over, for arrays grow ahead, and the detector's few points, whose number goes with ln(steps).
    assert with_rows < 2 * 1500 * bytes_per_row + 100_000
    assert without < 50_000


def test_the_stairs_of_a_deep_linear_network_are_plateaus_of_its_weights():
    """½‖W₂W₁ − A‖² from αI: the eigenvalues of each factor are √d, and so are the stairs."""
    A = torch.diag(torch.tensor([10.0, 3.0, 0.5] + 7 * [0.0], dtype=torch.float64))
    model = nn.Sequential(*(nn.Linear(10, 10, bias=False, dtype=torch.float64) for _ in range(2)))
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(1e-4 * torch.eye(10))
    optimizer = torch.optim.SGD(model.parameters(), lr=8e-3)
    with RankTracker(model, optimizer, every=rankscope.trace.log_spaced(), max_overhead=1.0) as tracker:
        for _ in range(4500):
            optimizer.zero_grad()
            (0.5 * (model[1].weight @ model[0].weight - A).square().sum()).backward()
            optimizer.step()
    roots = np.sqrt([10.0, 3.0, 0.5])
    levels = [float(metrics.effective_rank(np.diag(roots[:k]))) for k in (1, 2, 3)]
    for plateaus in tracker.plateaus.values():
        assert [plateau.level for plateau in plateaus] == pytest.approx(levels, rel=0.06)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"include": "*.wight"}, r"include must match a weight of the model, \['\*.wight'\] matched none of 0.weight"),
        ({"include": ["*.bias"]}, r"include must match a weight with 2 or more dimensions, only 0.bias, 2.bias"),
        ({"exclude": "*"}, "include must match a weight"),
        ({"include": ()}, "include must be a pattern"),
        ({"include": 3}, "include must be a pattern"),
        ({"every": 0}, "every must be a whole number from 1"),
        ({"every": 2.5}, "every must be a whole number from 1"),
        ({"every": True}, "every must be a whole number from 1"),
        ({"max_overhead": 0.0}, r"max_overhead must be in \(0, 1\]"),
        ({"max_overhead": 1.5}, r"max_overhead must be in \(0, 1\]"),
        ({"max_overhead": float("nan")}, r"max_overhead must be in \(0, 1\]"),
        ({"top_k": -1}, "top_k must be a whole number from 0"),
        ({"measures": {"step": metrics.stable_rank}}, "measures must have names of their own"),
        ({"optimizer": "adam"}, "optimizer must be a torch.optim.Optimizer"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, rule):
    with pytest.raises(ValueError, match=rule) as refused:
        RankTracker(network(), **settings)
    assert "\n" not in str(refused.value)


def test_what_is_not_a_model_is_refused():
    with pytest.raises(ValueError, match=r"model must be a torch\.nn\.Module, got list"):
        RankTracker([nn.Linear(2, 2)])


def test_public_name():
    assert rankscope.RankTracker is RankTracker
    assert "RankTracker" in dir(rankscope)
