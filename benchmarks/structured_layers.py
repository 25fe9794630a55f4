"""Structured layers against nn.Linear, forward and backward, at 4,096 and at every other width."""

import torch
from torch import nn

from racing import Claim, ratios, report
from rankscope.weights import Dense, Kronecker, LowRank, Monarch, StructuredLinear

BATCH = 256
SETTLED = 5
"""Steps after which a layer takes no less time: 64 MB of nn.Linear's leave nothing of a structure's in a cache."""
WIDTHS = {64: 40, 256: 40, 300: 40, 512: 40, 1024: 8}
"""And how often a step is timed in a round: squares, what no register divides, and twice a square."""


def step(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor):
    """One forward and backward pass, with a gradient for x, which another layer would be given."""

    def run() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        y = layer(x)
        y.backward(dy)

    return run


def compare(make, width: int, *, rounds: int, repeats: int) -> tuple[list[float], float]:
    """(time ratios, ratio of operations) against nn.Linear, each step after some of its own kind, as in training."""
    torch.manual_seed(0)
    structure = make(width)
    x = torch.randn(BATCH, width, requires_grad=True)
    dy = torch.randn(BATCH, width)
    ours, plain = StructuredLinear(structure), nn.Linear(width, width)
    flops = structure.flops(BATCH) / (2 * BATCH * width * width)
    times = ratios(step(ours, x, dy), step(plain, x, dy), rounds=rounds, repeats=repeats, pause=0, before=SETTLED)
    return times, flops


def main(rounds: int = 5) -> list[Claim]:
    claims = []
    wide = {
        "LowRank r=64": lambda n: LowRank(n, n, 64),
        "Kronecker 64⊗64": lambda n: Kronecker(n, n, left_shape=(64, 64)),
        "Monarch": lambda n: Monarch(n, n),
    }
    for name, make in wide.items():
        measured, flops = compare(make, 4096, rounds=rounds, repeats=3)
        target = min(1 / 15, 1.5 * flops)
        claims.append(
            Claim(f"{name}, 4,096 wide, batch {BATCH} / nn.Linear", target, measured, f"FLOP ratio {flops:.4f}")
        )
    every = {
        "Dense": lambda n: Dense(n, n),
        "LowRank r=n/8": lambda n: LowRank(n, n, max(1, n // 8)),
        "LowRank r=n/2": lambda n: LowRank(n, n, n // 2),
        "Kronecker": lambda n: Kronecker(n, n),
        "Kronecker K=4": lambda n: Kronecker(n, n, 4),
        "Monarch": lambda n: Monarch(n, n),
    }
    for width, repeats in WIDTHS.items():
        for name, make in every.items():
            measured, flops = compare(make, width, rounds=rounds, repeats=repeats)
            target = 1.25 if width == 64 else 1.05
            claims.append(Claim(f"{name}, {width} wide / nn.Linear", target, measured, f"FLOP ratio {flops:.3f}"))
    return claims


if __name__ == "__main__":
    report(main())
