"""Compiled work on several threads: every part once, whatever threads there are."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from rankscope import team
from rankscope.compiled import compiled, inner
from rankscope.team import together


@inner
def _count(part, times, add):
    times[part] += add


@compiled
def _add_in_parts(times, threads, add):
    together(_count, len(times), threads, (times, add))


def counted(parts, threads, add):
    times = np.zeros(parts)
    _add_in_parts(times, threads, add)
    return times


@inner
def _fail_at_two(part, most):
    if part == most:
        raise ValueError("no")


@compiled
def failing(parts, threads):
    together(_fail_at_two, parts, threads, (2,))


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("parts", [0, 1, 2, 1000])
def test_every_part_is_done_once(parts, threads):
    np.testing.assert_array_equal(counted(parts, threads, 3.0), np.full(parts, 3.0))


def test_work_within_work_is_done():
    outer = np.array([counted(50, 2, 1.0).sum() for _ in range(200)])
    np.testing.assert_array_equal(outer, 50.0)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_part_that_fails_is_not_hidden(threads):
    with pytest.raises(MemoryError, match="a part of the work failed"):
        failing(5, threads)
    failing(2, threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_pool_of_pythons_threads_does_the_same_call(threads):
    seen, shared = [], ctypes.create_string_buffer(b"data")

    @team._Work
    def work(data):
        seen.append(data)

    team._pooled(work, ctypes.addressof(shared), threads, 0)
    assert seen == [ctypes.addressof(shared)] * threads


def test_the_size_is_the_number_of_torchs_threads():
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert team.size() == 3
    finally:
        torch.set_num_threads(before)


FORK = """
import os, numpy as np
from rankscope import NMF, team
A = np.random.default_rng(0).random((600, 60), np.float32)
def error():
    return float(NMF(4, max_iter=20, random_state=0).fit(A).reconstruction_err_)
mine = error()
child = os.fork()
if child == 0:
    ok = team.size() == 1 and abs(error() - mine) < 1e-4 * mine
    os._exit(0 if ok else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_fits_alone():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=120)
