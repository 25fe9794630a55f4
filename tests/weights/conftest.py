"""Structures of every kind, for shapes that are neither square nor powers of two."""

from collections.abc import Callable

import pytest
import torch

import laws
from rankscope import rooms
from rankscope.weights import MLP, Dense, Fourier, Kronecker, LowRank, Monarch, Nonlinear, Sine, Structure, fused

SHAPES = [(15, 28), (9, 4), (10, 22)]

KINDS: dict[str, Callable[[int, int], Structure]] = {
    "dense": Dense,
    "low-rank": lambda o, i: LowRank(o, i, 3),
    "low-rank, full": lambda o, i: LowRank(o, i, min(o, i)),
    "kronecker": Kronecker,
    "kronecker sum": lambda o, i: Kronecker(o, i, 3),
    "monarch": Monarch,
    "monarch of rank two": lambda o, i: Monarch(o, i, 2, blocks=(1, 2)),
    "nlmf": lambda o, i: Nonlinear(MLP(), LowRank(o, i, 2)),
    "nlmf, relu": lambda o, i: Nonlinear(MLP(8, activation="relu"), LowRank(o, i, 2)),
    "nlmf, sine start": lambda o, i: Nonlinear(MLP(activation="relu", start="sine"), LowRank(o, i, 2)),
    "nlmf, original": lambda o, i: Nonlinear(MLP(start="original"), LowRank(o, i, 2)),
    "sine": lambda o, i: Nonlinear(Sine(o, i), LowRank(o, i, 2)),
    "sine with gains": lambda o, i: Nonlinear(Sine(o, i, gains="rows and columns"), Kronecker(o, i, 2)),
    "sine with phases": lambda o, i: Nonlinear(Sine(o, i, gains="rows and columns", phases=True), LowRank(o, i, 2)),
    "fourier": lambda o, i: Nonlinear(Fourier(), Monarch(o, i)),
    "function": lambda o, i: Nonlinear(torch.tanh, LowRank(o, i, 2)),
    "module": lambda o, i: Nonlinear(torch.nn.PReLU(), LowRank(o, i, 3)),
    "nested": lambda o, i: Nonlinear(Sine(o, i), Nonlinear(MLP(4), LowRank(o, i, 2))),
}

Make = Callable[..., Structure]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    """make((out, in), seed=0, dtype=float64): one kind of structure, started from that seed."""

    def build(shape: tuple[int, int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Structure:
        structure = KINDS[request.param](*shape).to(dtype)
        structure.reset_parameters(laws.generator(seed))
        return structure

    return build


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def shape(request: pytest.FixtureRequest) -> tuple[int, int]:
    """(out, in)."""
    return request.param


@pytest.fixture
def poisoned_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms of passes hold NaN when one begins."""
    free = {dtype: [torch.empty(2**20, dtype=dtype).numpy()] for dtype in rooms._free}
    monkeypatch.setattr(rooms, "_free", free)
    monkeypatch.setattr(rooms, "_bytes", {dtype: room.nbytes for dtype, (room,) in free.items()})

    def with_room(dtype: torch.dtype, work: Callable[..., int], *given: object) -> None:
        def begin(room: rooms.Array) -> int:
            room.fill(torch.nan)
            return work(room, *given)

        rooms.with_kept_room(dtype, begin)

    monkeypatch.setattr(fused, "with_kept_room", with_room)
