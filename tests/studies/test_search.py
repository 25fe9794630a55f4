"""A search proposes the same rates however often it is killed, and says when its optimum is at an edge."""

import math
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from rankscope.studies.search import DIVERGED, PARAMETER, RateSearch, open_storage, repair_journal

SEARCH = RateSearch(trials=8, round_size=3, seed=5)


class Killed(BaseException):
    """What nothing catches."""


def bump(rates: list[float]) -> list[float]:
    """Best at 10^−1.8."""
    return [1 - abs(math.log10(rate) + 1.8) / 3 for rate in rates]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


def test_the_same_seed_proposes_the_same_rates_in_rounds(tmp_path):
    rounds: dict[str, list[list[float]]] = {"a": [], "b": [], "c": []}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):

        def evaluate(rates: list[float], name: str = name) -> list[float]:
            rounds[name].append(rates)
            return bump(rates)

        RateSearch(trials=8, round_size=3, seed=seed).run(open_storage(tmp_path / name), "study", evaluate)
    assert [len(rates) for rates in rounds["a"]] == [3, 3, 2]
    assert rounds["a"] == rounds["b"]
    assert rounds["a"] != rounds["c"]
    assert all(1e-4 <= rate <= 1e-1 for rates in rounds["a"] for rate in rates)


def test_it_finds_the_optimum_better_than_its_first_round_did(journal):
    result = RateSearch(seed=1).run(open_storage(journal), "study", bump)
    assert result.score == max(result.scores) > max(result.scores[:5])
    assert abs(math.log10(result.learning_rate) + 1.8) < 0.2
    assert result.edge == ""


def test_killed_anywhere_it_goes_on_to_the_same_trials(journal):
    whole = SEARCH.run(open_storage(journal), "study", bump)
    text = journal.read_bytes()
    for cut in range(0, len(text), 701):  # within lines too: a torn last line
        journal.write_bytes(text[:cut])
        repair_journal(journal)
        again = SEARCH.run(open_storage(journal), "study", bump)
        assert (again.rates, again.scores) == (whole.rates, whole.scores)


def test_a_kill_while_a_round_trains_loses_that_round_alone(journal):
    seen: list[list[float]] = []

    def dies_in_the_second(rates: list[float]) -> list[float]:
        seen.append(rates)
        if len(seen) == 2:
            raise Killed
        return bump(rates)

    with pytest.raises(Killed):
        SEARCH.run(open_storage(journal), "study", dies_in_the_second)
    journal.with_name("optuna.journal.lock").write_text("")  # left by a process that is no more
    SEARCH.run(open_storage(journal), "study", dies_in_the_second)
    assert seen[2] == seen[1]
    assert len(seen) == 4


def test_optunas_own_tools_open_the_journal(journal):
    SEARCH.run(open_storage(journal), "study", bump)
    study = optuna.load_study(study_name="study", storage=JournalStorage(JournalFileBackend(str(journal))))
    assert len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 8
    assert list(study.best_params) == [PARAMETER]


@pytest.mark.parametrize(("slope", "edge"), [(1, "high"), (-1, "low")])
def test_an_optimum_at_the_edge_is_flagged(journal, slope, edge):
    result = RateSearch(trials=30, round_size=10).run(
        open_storage(journal), "study", lambda rates: [slope * math.log10(rate) for rate in rates]
    )
    assert result.edge == edge


def test_a_diverged_trial_counts_as_a_failure_not_as_missing(journal):
    result = SEARCH.run(open_storage(journal), "study", lambda rates: [math.nan if r > 1e-3 else 0.5 for r in rates])
    assert len(result.scores) == 8
    assert DIVERGED in result.scores
    assert result.learning_rate <= 1e-3


def test_of_equal_scores_the_smallest_rate_is_chosen(journal):
    result = SEARCH.run(open_storage(journal), "study", lambda rates: [0.5 for _ in rates])
    assert result.learning_rate == min(result.rates)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials must be >= 1, got 0; raise it"),
        ({"round_size": 0}, "round_size must be >= 1, got 0; raise it"),
        ({"low": 0.1, "high": 0.01}, "rates must satisfy 0 < low < high, got 0.1 and 0.01"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RateSearch(**change)
