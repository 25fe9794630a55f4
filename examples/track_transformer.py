"""Watch the weights of a small transformer while it learns to add modulo p.

    python examples/track_transformer.py --out tracked-transformer

One block, written out below, sees "a b =" and names a + b mod p; trained on 60% of the pairs with AdamW and a strong
weight decay. It knows what it was trained on after a hundred steps and the rest after two thousand: meanwhile, at an
unchanged training accuracy, the effective ranks fall. Saves layers.csv, curves.csv and four figures into --out. Half a
minute on one core.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

mpl.use("Agg")
import matplotlib.pyplot as plt

from rankscope.plots import layer_heatmap, layer_staircases, singular_value_trajectories
from rankscope.trace import RankTracker, log_spaced


class Attention(nn.Module):
    """Softmax(Q Kᵀ/√d) V for a few heads, from the last position only: the others are not asked."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, positions, width) → (batch, width)."""
        q = self.query(x[:, -1:]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.key, self.value))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))


class Transformer(nn.Module):
    """One block over the tokens a, b and "=", and the logits of a + b mod p."""

    def __init__(self, p: int, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(p + 1, width), nn.Embedding(3, width)
        self.attention = Attention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.unembed = nn.Linear(width, p, bias=False)
        for embedding in (self.embed, self.position):
            nn.init.normal_(embedding.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, 3) → (batch, p)."""
        x = self.embed(tokens) + self.position.weight
        last = x[:, -1] + self.attention(x)
        return self.unembed(last + self.down(F.relu(self.up(last))))


def pairs(p: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """All p² questions as tokens, their answers, and which are trained on."""
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
    tokens = torch.stack([a, b, torch.full_like(a, p)], 1)
    return tokens, (a + b) % p, torch.rand(p * p, generator=generator) < share


def train(p: int, steps: int, seed: int, share: float = 0.6) -> tuple[RankTracker, pd.DataFrame]:
    """Train on a share of the questions, watching every weight."""
    torch.manual_seed(seed)
    tokens, answers, trained = pairs(p, share, torch.Generator().manual_seed(seed))
    model = Transformer(p)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1.0, betas=(0.9, 0.98))
    due, curves, told = log_spaced(), [], 0
    # A twentieth of the time, the default, would leave out most of the first hundred steps of so small a model.
    watched = {"include": "*.weight", "exclude": "position.*", "every": due, "max_overhead": 0.2}
    with RankTracker(model, optimizer, **watched) as tracker:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(tokens[trained]), answers[trained])
            loss.backward()
            optimizer.step()
            if due(step):
                with torch.no_grad():
                    right = model(tokens).argmax(1) == answers
                shares = [float(right[rows].float().mean()) for rows in (trained, ~trained)]
                curves.append({"step": step, "loss": loss.item(), "trained": shares[0], "held_out": shares[1]})
                if 10 * step >= told * steps:
                    print(f"step {step}: accuracy {shares[0]:.3f} trained, {shares[1]:.3f} held out", flush=True)
                    told += 1
        tracker.record()
    return tracker, pd.DataFrame(curves)


def figures(tracker: RankTracker, curves: pd.DataFrame, out: Path) -> None:
    """The accuracy above the heatmap on one axis, the staircases and the singular values."""
    history = tracker.history
    page, (above, below) = plt.subplots(
        2, 1, figsize=(5.2, 4.4), sharex=True, layout="constrained", height_ratios=[1, 1.7]
    )
    for name, color, style in (("trained", "#0072B2", "-"), ("held_out", "#D55E00", "--")):
        above.plot(curves["step"] + 1, curves[name], color=color, linestyle=style, label=name.replace("_", " "))
    above.set_ylabel("accuracy", fontsize=8)
    above.set_ylim(-0.03, 1.03)
    above.tick_params(labelsize=7)
    above.spines[["top", "right"]].set_visible(False)
    above.legend(fontsize=7, frameon=False)
    layer_heatmap(history, relative=True, ax=below)
    page.savefig(out / "learning.png", dpi=200)
    layer_heatmap(history).figure.savefig(out / "effective_rank.png", dpi=200)
    layer_staircases(history, tracker.plateaus)[0].figure.savefig(out / "staircases.png", dpi=200)
    singular_value_trajectories(history)[0].figure.savefig(out / "singular_values.png", dpi=200)
    plt.close("all")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tracked-transformer"))
    parser.add_argument("--p", type=int, default=31)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    tracker, curves = train(asked.p, asked.steps, asked.seed)
    tracker.to_csv(asked.out / "layers.csv")
    curves.to_csv(asked.out / "curves.csv", index=False)
    figures(tracker, curves, asked.out)
    last = curves.iloc[-1]
    print(f"accuracy {last['trained']:.3f} on what was trained, {last['held_out']:.3f} on what was held out")
    for layer, rows in tracker.history.groupby("layer", sort=False):
        rank = rows["effective_rank"]
        levels = ", ".join(f"{plateau.level:.1f}" for plateau in tracker.plateaus[str(layer)])
        stairs = f"plateaus at {levels}" if levels else "no plateau"
        print(f"{layer:24} effective rank {rank.iloc[0]:5.1f} → {rank.iloc[-1]:5.1f}, {stairs}")
    print(f"{len(tracker.history)} rows, {tracker.overhead:.1%} of the time, figures in {asked.out}")


if __name__ == "__main__":
    main()
