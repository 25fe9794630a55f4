"""The brief's own example at full length: its error beside scikit-learn's, and what watching every epoch costs.

    Deep_NMF_2W(X[100:350, :], r1=20, r2=10, init='random', end='all', epochs=10000)

on real MNIST (RANKSCOPE_DATA). The cost of all metrics at every epoch is the ratio of the same fit with and without a
history, run in turn; the median of the pairs counts.
"""

import argparse
import statistics
import time
import warnings

import torch
from sklearn.decomposition import NMF as ScikitLearnNMF

from rankscope import DeepNMF
from rankscope.compat import Deep_NMF_2W, load_mnist
from rankscope.metrics import relative_error


def error_against_scikit_learn(X, epochs: int, seeds: int) -> None:
    peer = ScikitLearnNMF(10, init="nndsvda", max_iter=2000, tol=1e-6)
    W = peer.fit_transform(X)
    reference = relative_error(X, [W, peer.components_])
    print(f"scikit-learn NMF, 10 components: relative error {reference:.6f}")
    for seed in range(seeds):
        start = time.perf_counter()
        result = Deep_NMF_2W(X, r1=20, r2=10, init="random", end="all", epochs=epochs, seed=seed)
        seconds = time.perf_counter() - start
        factors, logs = result[:3], result[3:]
        assert len(result) == 8
        assert all(len(log) == epochs for log in logs)
        error = relative_error(X, list(factors))
        assert abs(error - logs[0][-1]) < 1e-5
        print(
            f"Deep_NMF_2W, seed {seed}: relative error {error:.6f} ({error / reference - 1:+.2%} of scikit-learn's), "
            f"effective rank {logs[1][-1]:.3f}, {seconds:.1f} s"
        )


def cost_of_metrics(X, epochs: int, pairs: int) -> None:
    def seconds(track: bool) -> tuple[float, float]:
        """What the processors and the clock say of one fit."""
        model = DeepNMF((20, 10), solver="adam", max_iter=epochs, stop="none", random_state=0, track_history=track)
        begun = time.process_time(), time.perf_counter()
        model.fit(X)
        return time.process_time() - begun[0], time.perf_counter() - begun[1]

    seconds(True)
    ratios = []
    for pair in range(pairs):
        order = (False, True) if pair % 2 else (True, False)  # what drifts on the machine favours neither
        took = {track: seconds(track) for track in order}
        ratios.append([a / b for a, b in zip(took[True], took[False], strict=True)])
        watched, plain = (1e6 * took[track][1] / epochs for track in (True, False))
        print(f"{watched:7.1f} µs an epoch with all metrics, {plain:7.1f} without")
    processor, clock = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"cost of all metrics at every epoch, median ratio of {pairs} pairs: {processor:.3f} in processor time, "
        f"{clock:.3f} by the clock (≤ 1.10; on a shared machine only the first means something)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = load_mnist()[0][100:350]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    error_against_scikit_learn(rows, arguments.epochs, arguments.seeds)
    cost_of_metrics(rows, arguments.epochs, arguments.pairs)
