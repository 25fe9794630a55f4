"""Both studies, small: what `rankscope demo` shows on data that needs no network."""

from collections.abc import Callable, Iterator
from pathlib import Path

from rankscope.runs import Run
from rankscope.studies import rank_bias, weight_matrices
from rankscope.studies.rank_bias import RankBiasConfig
from rankscope.studies.weight_config import WeightConfig


def configs(out: Path) -> dict[str, RankBiasConfig]:
    """The demonstration's studies by their title."""
    return {
        "Which solver from which start? Digits, 16 components": RankBiasConfig(
            ranks=(16,),
            solver=("hals", "mu", "gd", "adam"),
            init=("random", "nndsvda"),
            max_iter=300,
            tol=1e-3,
            out=out,
        ),
        "How the rank emerges: digits, 10 components, gradient steps from a small start": RankBiasConfig(
            rows="0:1000",
            ranks=(10,),
            solver=("scalar",),
            init=("random",),
            learning_rate=0.05,
            init_scale=1e-2,
            max_iter=5000,
            stop="none",
            out=out,
        ),
        "Deep, A ≈ W1 W2 H: digits, 20 and 10 components, Adam": RankBiasConfig(
            ranks=(20, 10),
            rows="100:350",
            solver=("adam",),
            init=("random",),
            max_iter=3000,
            stop="none",
            out=out,
        ),
    }


def weights_config(out: Path) -> WeightConfig:
    """The brief's four weight structures on a fifth of the data, with fewer and shorter trials."""
    return WeightConfig(
        models=("dense", "low-rank", "nlmf", "kronecker"),
        samples=2000,
        trials=4,
        round_size=4,
        epochs=10,
        seeds=3,
        low=3e-3,
        out=out,
    )


def run(
    out: Path, *, progress: bool = False, say: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[str, Run]]:
    """Do them one after the other, each with its title and run folder when it is done."""
    for title, config in configs(out).items():
        yield title, rank_bias.run(config, progress=progress, say=say)
    title = "Which structure of W learns most? MNIST-1D, 2,000 signals, 4 trials of 10 epochs: too short to judge by"
    yield title, weight_matrices.run(weights_config(out), progress=progress, say=say)
