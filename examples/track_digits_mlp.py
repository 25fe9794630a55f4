"""Watch a small network learn the digits 0–4, and then all ten starting from there.

    python examples/track_digits_mlp.py --out tracked-digits

A 64-128-64-10 network from a small start, by gradient descent with momentum: first a hook on the optimizer does the
tracking, then, for the fine-tuning, the loop calls the tracker itself. The effective ranks fall from those of noise to
what five classes take, rest there, and climb to what ten take. Saves a table and figures of both phases into --out.
Ten seconds on one core.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

mpl.use("Agg")
import matplotlib.pyplot as plt

from rankscope.datasets import load_digits
from rankscope.plots import layer_heatmap, layer_staircases, singular_value_trajectories
from rankscope.trace import RankTracker, log_spaced

PHASES = ("0–4", "all ten")


@dataclass(frozen=True)
class Split:
    """Images (n×64) and labels (n), to learn from and to judge by."""

    X: Tensor
    y: Tensor
    X_test: Tensor
    y_test: Tensor

    def only(self, digits: list[int]) -> "Split":
        """The rows that show these digits."""
        chosen = torch.tensor(digits)
        train, test = torch.isin(self.y, chosen), torch.isin(self.y_test, chosen)
        return Split(self.X[train], self.y[train], self.X_test[test], self.y_test[test])


def digits(seed: int) -> Split:
    """The scikit-learn digits, a quarter of them to judge by."""
    X, dataset = load_digits()
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = order[len(X) // 4 :], order[: len(X) // 4]
    X, y = torch.from_numpy(X), torch.from_numpy(np.asarray(dataset.labels, dtype=np.int64))
    return Split(X[train], y[train], X[test], y[test])


def network(seed: int, scale: float = 0.05) -> nn.Sequential:
    """64-128-64-10 with rectifiers, weights at a fraction of PyTorch's start."""
    torch.manual_seed(seed)
    sizes = (64, 128, 64, 10)
    model = nn.Sequential(
        nn.Linear(sizes[0], sizes[1]),
        nn.ReLU(),
        nn.Linear(sizes[1], sizes[2]),
        nn.ReLU(),
        nn.Linear(sizes[2], sizes[3]),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def train(model: nn.Module, data: Split, steps: int, seed: int, *, by_hand: bool) -> tuple[RankTracker, float]:
    """Train, watching; return the tracker and the share of the test images that are named right."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    hooked = None if by_hand else optimizer
    # No bound on the time, for a step of so small a model takes less than measuring it, and there are few rows.
    with RankTracker(model, hooked, include="*.weight", every=log_spaced(), max_overhead=1.0) as tracker:
        for _ in range(steps):
            rows = torch.randint(len(data.X), (128,), generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(model(data.X[rows]), data.y[rows]).backward()
            optimizer.step()
            if by_hand:
                tracker.step()
        tracker.record()
    with torch.no_grad():
        right = model(data.X_test).argmax(1) == data.y_test
    return tracker, float(right.float().mean())


def figures(trackers: list[RankTracker], out: Path) -> None:
    """The stairs of both phases beside each other, both heatmaps, and the singular values of both."""
    layers = trackers[0].layers
    stairs, axes = plt.subplots(2, len(layers), figsize=(7.16, 3.8), sharey="col", layout="constrained")
    for row, (tracker, phase) in enumerate(zip(trackers, PHASES, strict=True)):
        layer_staircases(tracker.history, tracker.plateaus, axes=axes[row])
        axes[row, 0].set_ylabel(f"effective rank, {phase}", fontsize=8)
    stairs.savefig(out / "staircases.png", dpi=200)
    page, columns = plt.subplots(1, 2, figsize=(7.16, 1.9), sharey=True, layout="constrained")
    for ax, tracker, phase in zip(columns, trackers, PHASES, strict=True):
        layer_heatmap(tracker.history, relative=True, ax=ax)
        ax.set_title(phase, fontsize=8)
    page.savefig(out / "heatmaps.png", dpi=200)
    for tracker, name in zip(trackers, ("pre-training", "fine-tuning"), strict=True):
        singular_value_trajectories(tracker.history)[0].figure.savefig(out / f"singular_values_{name}.png", dpi=200)
    plt.close("all")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tracked-digits"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    data, model = digits(asked.seed), network(asked.seed)
    trackers = []
    for phase, part, by_hand in zip(PHASES, (data.only([0, 1, 2, 3, 4]), data), (False, True), strict=True):
        tracker, accuracy = train(model, part, asked.steps, asked.seed, by_hand=by_hand)
        tracker.to_csv(asked.out / f"layers_{'fine-tuning' if by_hand else 'pre-training'}.csv")
        trackers.append(tracker)
        print(f"{phase}: test accuracy {accuracy:.3f}, {len(tracker.history)} rows, {tracker.overhead:.1%} of the time")
        for layer, rows in tracker.history.groupby("layer", sort=False):
            rank = rows["effective_rank"]
            levels = ", ".join(f"{plateau.level:.1f}" for plateau in tracker.plateaus[str(layer)])
            stairs = f"plateaus at {levels}" if levels else "no plateau"
            print(f"  {layer:10} effective rank {rank.iloc[0]:5.1f} → {rank.iloc[-1]:5.1f}, {stairs}")
    figures(trackers, asked.out)


if __name__ == "__main__":
    main()
