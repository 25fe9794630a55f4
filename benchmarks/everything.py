"""Every claim on speed and memory, measured and written down: docs/performance.md and its figure.

make bench
"""

import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import cost_of_metrics
import fused_iteration
import memory_and_scaling
import objective
import race_digits
import race_mnist
import race_peers
import structured_layers
import transform
from racing import Claim, machine

DOCS = Path(__file__).parent.parent / "docs"


def table(claims: list[Claim]) -> str:
    rows = ["| claim | target | median | range | |", "| --- | --- | --- | --- | --- |"]
    for claim in claims:
        mark = "met" if claim.met else "**missed**"
        spread = f"{min(claim.ratios):.3g}–{max(claim.ratios):.3g}"
        rows.append(f"| {claim.name} | ≤ {claim.target:.3g} | {claim.median:.3g} | {spread} | {mark} |")
    notes = [f"- {claim.name}: {claim.note}" for claim in claims if claim.note]
    return "\n".join([*rows, "", "Details:", "", *notes])


RACES = (
    (fused_iteration.main,),
    (cost_of_metrics.main,),
    (transform.main,),
    (memory_and_scaling.main,),
    (structured_layers.main,),
    (race_digits.main,),
    (objective.main,),
    (race_peers.main, 3, 25.0, DOCS / "figures" / "race.png"),
    (race_mnist.main, 3),
)


def main() -> None:
    begun, claims = time.perf_counter(), []
    # Each in a process of its own, as when its script is run alone: what one leaves in memory is not the next one's.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        for race in RACES:
            start = time.perf_counter()
            claims += told(fresh.submit(*race).result())
            print(f"  {race[0].__module__}: {time.perf_counter() - start:.0f} s", flush=True)
    minutes = (time.perf_counter() - begun) / 60
    head = f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} minutes on {machine()}."
    marks = "<!-- measured -->", "<!-- end -->"
    page = DOCS / "performance.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    after = rest.partition(marks[1])[2]
    page.write_text(f"{before}{marks[0]}\n{head}\n\n{table(claims)}\n{marks[1]}{after}", encoding="utf-8")


def told(claims: list[Claim]) -> list[Claim]:
    """The claims, printed as they come."""
    for claim in claims:
        print(claim.line(), flush=True)
    return claims


if __name__ == "__main__":
    main()
