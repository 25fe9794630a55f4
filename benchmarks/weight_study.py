"""How long the weight study takes beside the same protocol as a plain loop over single models, measured in one run.

The protocol is `rankscope weights` for the brief's four models: 15 trials of 50 epochs each, then 10 seeds trained
twice (with a validation part, and on all training rows). The plain loop trains the same members one after the other,
each with torch.optim.Adam on its own nn.Module, in one process. It is timed on a sample of its steps, with one and with
two threads of torch, and the faster of the two counts; its total is the sample's mean step times the protocol's steps,
and validation after every epoch. The study is timed whole but for fewer epochs, and scaled to 50; what a population
costs once, before its first step, is then counted several times. The two take turns; the median of the pairs counts.
"""

import argparse
import math
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
EPOCHS, TRIALS, SEEDS, BATCH = 50, 15, 10, 128


def plain(model: WeightModel, task: Task, steps: int, warm: int = 10) -> tuple[float, float]:
    """Seconds a step of the plain loop, the mean over steps, and seconds of one validation."""
    X, y = task.train.X, task.train.y
    member = Member(0.01, 0)
    network, split = member_model(model.build, member), member_split(member, task.train)
    optimizer = torch.optim.Adam(network.parameters(), lr=member.learning_rate)
    order = split.train[member_order(member, 0, len(split.train))].split(BATCH)
    begun = 0.0
    for step in range(warm + steps):
        if step == warm:
            begun = time.perf_counter()
        rows = order[step % (len(order) - 1)]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
        optimizer.step()
    trained = time.perf_counter()
    with torch.no_grad():
        (network(X[split.validation]).argmax(1) == y[split.validation]).float().mean().item()
    return (trained - begun) / steps, time.perf_counter() - trained


def study(task: Task, epochs: int) -> float:
    """Seconds of the study's training with that many epochs, two models side by side."""
    with tempfile.TemporaryDirectory() as out:
        config = WeightConfig(models=MODELS, epochs=epochs, workers=2, out=Path(out))
        folder = Run.create(config.out, "weights", config={"study": "weights"})
        begun = time.perf_counter()
        _train(folder, config, task, config.entries(task), progress=False, say=lambda line: None)
        return time.perf_counter() - begun


def main(pairs: int, steps: int, epochs: int) -> None:
    task, models = read_task(WeightConfig()), weight_models(MODELS)
    searched = (TRIALS + SEEDS) * math.ceil(6400 / BATCH)  # steps an epoch, all members of one model together
    refitted = SEEDS * math.ceil(8000 / BATCH)
    ratios = []
    for _ in range(pairs):
        loop = 0.0
        for model in models:
            totals = {}
            for threads, sample in ((1, steps), (2, max(steps // 5, 10))):
                torch.set_num_threads(threads)
                step, validation = plain(model, task, sample)
                totals[threads] = EPOCHS * (step * (searched + refitted) + validation * (TRIALS + SEEDS))
                print(f"  plain loop, {model.name}, {threads} threads: {1e3 * step:.2f} ms a step")
            loop += min(totals.values())
        ours = study(task, epochs) * EPOCHS / epochs
        ratios.append(ours / loop)
        print(f"whole protocol: plain loop {loop:.0f} s, rankscope {ours:.0f} s, ratio {ours / loop:.3f}", flush=True)
    print(f"median ratio of {pairs} pairs: {statistics.median(ratios):.3f} (at most 0.2 was asked)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of the plain loop's sample, for each model")
    parser.add_argument("--epochs", type=int, default=20, help="of the study that is timed")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, two models side by side")
    main(arguments.pairs, arguments.steps, arguments.epochs)
