"""Peak memory of a fit above A, and seconds an iteration as rows grow."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from racing import Claim, mnist, quiet, random_start, report, seconds
from rankscope import NMF
from rankscope.nmf.advance import advance, start
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import make_rule

TURNS = 7
"""Of all numbers of rows, in each round of ``scaling``."""


def peak_above(solver: str, r: int = 50) -> float:
    """Peak resident bytes of one fit of 60,000×784 above what was resident before it, as a share of A.

    A small fit comes first, so that compiled code and thread pools, which are there once, do not count. The process is
    to give back what it lets go (see ``main``): by itself it keeps some of it, more or less by chance.
    """
    quiet()
    X = mnist()
    W0, H0 = random_start(X, r, 0)
    settings = dict(solver=solver, init="custom", max_iter=15, stop="none")
    NMF(r, **settings).fit(X[:4000], W=W0[:4000], H=H0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # The peak counts from here.
    before = resident("VmRSS")
    NMF(r, **settings).fit(X, W=W0, H=H0)
    return (resident("VmHWM") - before) / X.nbytes


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def scaling(rounds: int, r: int) -> Claim:
    """The largest deviation from proportionality among 7,500 … 120,000 rows, of an iteration that follows others.

    Of the medians of some turns: what one turn has of noise would count where it is largest.
    """
    X = torch.from_numpy(mnist()).repeat(2, 1)
    rule = make_rule("hals", inner_sweeps="auto", shape=(60_000, 784), rank=r)
    sizes = (7_500, 15_000, 30_000, 60_000, 120_000)
    runs = {}
    for m in sizes:
        W, H = (torch.from_numpy(F) for F in random_start(X[:m].numpy(), r, 0))
        blocks = RowBlocks.of(X[:m])
        runs[m] = (blocks, advance(blocks, start(blocks, Chain((W, H)), rule), rule, (NO_PENALTY,) * 2)[0])
    found = []
    for _ in range(rounds):
        took = {m: [] for m in sizes}
        for _ in range(TURNS):
            for m, (blocks, state) in runs.items():
                once = [seconds(lambda b=blocks, s=state: advance(b, s, rule, (NO_PENALTY,) * 2)) for _ in range(5)]
                took[m].append(min(once) / m)
        each = [statistics.median(times) for times in took.values()]
        found.append(max(abs(time / statistics.median(each) - 1) for time in each))
    return Claim(f"seconds an iteration and row, r={r}, 7,500 to 120,000 rows: largest deviation", 0.10, found)


def main(rounds: int = 3) -> list[Claim]:
    claims = []
    for solver in ("hals", "mu", "gd"):
        shares = []
        for _ in range(rounds):
            code = f"import memory_and_scaling as m; print(m.peak_above({solver!r}))"
            answer = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                cwd=Path(__file__).parent,
                env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
            )
            shares.append(float(answer.stdout.split()[-1]))
        claims.append(Claim(f"peak memory above A / A, 60,000×784, r=50, {solver}", 0.25, shares))
    return [*claims, scaling(5, 20), scaling(5, 50)]


if __name__ == "__main__":
    report(main())
