"""Threads of Python's for row blocks that operations touch: widened from integers, filled in, or of another rule.

Each worker takes whole blocks and runs its operations on one core. A block small enough for a core's cache is too small
to share between cores; two side by side keep both busy. What is compiled needs no workers (``team``).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # A fork keeps no threads.


@contextmanager
def one_thread() -> Iterator[None]:
    """The calling thread's kernels on one core: torch's helpers would go on spinning for work, on the workers'."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def spread(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """work(part) for all parts at once, one worker each."""
    if len(parts) == 1:
        return [work(parts[0])]
    return list(_pool(len(parts)).map(work, parts))


def _pool(size: int) -> ThreadPoolExecutor:
    pool = _pools.get(size)
    if pool is None:
        threads, ready = torch.get_num_threads(), Barrier(size)
        pool = _pools[size] = ThreadPoolExecutor(size, thread_name_prefix="rankscope")
        list(pool.map(lambda _: (torch.set_num_threads(1), ready.wait()), range(size)))
        # The number that a worker sets is its own, but also what later threads start with.
        torch.set_num_threads(threads)
    return pool
