"""Schedules and the budget that thins them."""

import math

import pytest

from rankscope.trace import schedule
from rankscope.trace.schedule import Budget, as_schedule, log_spaced


def test_a_number_is_every_so_many_steps_and_a_function_is_itself():
    assert [step for step in range(10) if as_schedule(3)(step)] == [0, 3, 6, 9]
    odd = lambda step: step % 2 == 1  # noqa: E731
    assert as_schedule(odd) is odd


@pytest.mark.parametrize("per_e_fold", [5, 40, 0.5])
def test_log_spacing_has_so_many_steps_per_growth_by_e(per_e_fold):
    due = [step for step in range(100_000) if log_spaced(per_e_fold)(step)]
    assert due[0] == 0
    late = [step for step in due if step >= 1000]
    assert len(late) == pytest.approx(per_e_fold * math.log(100), abs=1.01)
    if per_e_fold == 40:
        assert due[:41] == list(range(41))


@pytest.mark.parametrize("per_e_fold", [0, -1, math.nan])
def test_log_spacing_refuses(per_e_fold):
    with pytest.raises(ValueError, match="per_e_fold must be positive"):
        log_spaced(per_e_fold)


def test_what_is_spent_never_exceeds_the_fraction(monkeypatch):
    now = 0.0
    monkeypatch.setattr(schedule.time, "perf_counter", lambda: now)
    budget = Budget(0.1)
    spent = []
    for _ in range(2000):
        now += 0.05
        if budget.affordable():
            cost = 0.2  # four steps' worth
            now += cost
            budget.spend(cost)
            spent.append(now)
    assert spent[0] == pytest.approx(0.25)  # the first is always made: nothing is known of its cost
    assert budget.overhead == pytest.approx(0.1, rel=0.02)
    assert budget.overhead <= 0.1
    assert budget.spent == pytest.approx(0.2 * len(spent))


def test_the_whole_time_is_no_bound(monkeypatch):
    now = 0.0
    monkeypatch.setattr(schedule.time, "perf_counter", lambda: now)
    budget = Budget(1.0)
    for _ in range(5):
        assert budget.affordable()
        now += 1.0
        budget.spend(1.0)
