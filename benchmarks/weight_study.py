"""How long the weight study takes beside the same protocol as a plain loop over single models, measured in one run.

The protocol is `rankscope weights` for the brief's four models: 15 trials of 50 epochs each, then 10 seeds trained
twice (with a validation part, and on all training rows). The plain loop trains the same members one after the other,
each with torch.optim.Adam on its own nn.Module, in one process. It is timed on a sample (each model, some members for a
few epochs, after one epoch of warming up) with one and with two threads of torch, and the faster of the two counts; its
total is the sample's time a member-epoch times the protocol's member-epochs. The study is timed whole but for fewer
epochs, and scaled to 50; what a population costs once is then counted several times. The two take turns, and the median
of the pairs counts.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from rankscope.runs import Run
from rankscope.studies.weight_config import WeightConfig, read_task
from rankscope.studies.weight_matrices import _train
from rankscope.studies.weight_models import WeightModel, weight_models
from rankscope.studies.weight_training import Task
from rankscope.weights import Member
from rankscope.weights.members import member_model, member_order, member_split

MODELS = ("dense", "low-rank", "nlmf", "kronecker")
EPOCHS, TRIALS, SEEDS = 50, 15, 10


def plain(model: WeightModel, task: Task, members: int, epochs: int) -> float:
    """Seconds a member-epoch of the plain loop, validation included, the median over members and epochs."""
    X, y = task.train.X, task.train.y
    seconds = []
    for seed in range(members):
        member = Member(0.01, seed)
        network, split = member_model(model.build, member), member_split(member, task.train)
        optimizer = torch.optim.Adam(network.parameters(), lr=member.learning_rate)
        for epoch in range(epochs + 1):
            begun = time.perf_counter()
            for rows in split.train[member_order(member, epoch, len(split.train))].split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
                optimizer.step()
            with torch.no_grad():
                (network(X[split.validation]).argmax(1) == y[split.validation]).float().mean().item()
            if epoch:
                seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def study(task: Task, epochs: int) -> float:
    """Seconds of the study's training with that many epochs, two models side by side."""
    with tempfile.TemporaryDirectory() as out:
        config = WeightConfig(models=MODELS, epochs=epochs, workers=2, out=Path(out))
        folder = Run.create(config.out, "weights", config={"study": "weights"})
        begun = time.perf_counter()
        _train(folder, config, task, config.entries(task), progress=False, say=lambda line: None)
        return time.perf_counter() - begun


def main(pairs: int, members: int, plain_epochs: int, epochs: int) -> None:
    task, models = read_task(WeightConfig()), weight_models(MODELS)
    each = EPOCHS * (TRIALS + SEEDS) + EPOCHS * SEEDS * 8000 / 6400  # refits see all 8,000 rows
    ratios = []
    for _ in range(pairs):
        loop = 0.0
        for model in models:
            times = {}
            for threads in (1, 2):
                torch.set_num_threads(threads)
                times[threads] = plain(model, task, members, plain_epochs)
            loop += each * min(times.values())
            print(
                f"  plain loop, {model.name}: {1e3 * times[1]:.1f} ms a member-epoch with one thread, "
                f"{1e3 * times[2]:.1f} with two"
            )
        ours = study(task, epochs) * EPOCHS / epochs
        ratios.append(ours / loop)
        print(f"whole protocol: plain loop {loop:.0f} s, rankscope {ours:.0f} s, ratio {ours / loop:.3f}", flush=True)
    print(f"median ratio of {pairs} pairs: {statistics.median(ratios):.3f} (at most 0.2 was asked)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--plain-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, two models side by side")
    main(arguments.pairs, arguments.members, arguments.plain_epochs, arguments.epochs)
