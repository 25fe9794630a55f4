"""All metrics at every step against none, and a deep fit of 250 images against a plain loop in torch."""

import torch

from racing import Claim, mnist, quiet, ratios, report
from rankscope import NMF, DeepNMF
from rankscope.metrics import effective_rank


def watched_against_blind(model, X, rounds: int, name: str, target: float) -> Claim:
    fits = [lambda on=on: model.set_params(track_history=on).fit(X) for on in (True, False)]
    return Claim(f"all metrics at every step / none, {name}", target, ratios(*fits, rounds=rounds, repeats=3))


def plain_loop(A: torch.Tensor, epochs: int, *, metrics: bool) -> None:
    """A ≈ W1 W2 H by autograd and Adam, as one writes it first."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((len(A), 20), (20, 10), (10, A.shape[1]))
    factors = [torch.rand(shape, generator=generator).requires_grad_() for shape in shapes]
    optimizer = torch.optim.Adam(factors, lr=1e-2)
    norm = A.square().sum()
    for _ in range(epochs):
        optimizer.zero_grad()
        B = factors[0] @ factors[1] @ factors[2]
        loss = (A - B).square().sum()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for factor in factors:
                factor.clamp_(min=0)
            if metrics:
                sigma = torch.linalg.svdvals(B)
                (loss / norm).item(), effective_rank.of_spectrum(sigma).item(), (sigma.sum() / sigma[0]).item()


def deep(X, rounds: int, epochs: int = 1000) -> list[Claim]:
    A = torch.from_numpy(X)
    model = DeepNMF((20, 10), solver="adam", max_iter=epochs, stop="none", random_state=0)
    few = epochs // 50  # The loop with an SVD is slow enough to be judged by a fiftieth.
    with_svd = ratios(lambda: model.fit(X), lambda: plain_loop(A, few, metrics=True), rounds=rounds)
    without = ratios(lambda: model.fit(X), lambda: plain_loop(A, epochs, metrics=False), rounds=rounds, repeats=3)
    name = "deep 20–10, adam, 250×784, all metrics each epoch / a plain torch loop"
    return [
        Claim(f"{name} with an SVD each epoch", 1 / 50, [ratio * few / epochs for ratio in with_svd]),
        Claim(f"{name} without any metric", 1 / 5, without),
    ]


def main(rounds: int = 5) -> list[Claim]:
    quiet()
    small, large = mnist(12_000)[100:350], mnist(12_000)
    adam = DeepNMF((20, 10), solver="adam", max_iter=2000, stop="none", random_state=0)
    hals = NMF(50, init="random", max_iter=40, stop="none", random_state=0)
    # Small ones first: the plain loop takes half as long again once workers for row blocks have been started.
    return [
        *deep(small, rounds),
        watched_against_blind(adam, small, rounds, "deep adam, 250×784", 1.10),
        watched_against_blind(hals, large, rounds, "hals, 12,000×784, r=50", 1.02),
    ]


if __name__ == "__main__":
    report(main())
