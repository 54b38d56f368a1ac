"""Neural estimates of mutual information beside the truth and KSG: bias and standard deviation of each bound.

    python examples/benchmarks/estimators.py [--quick] [--seeds 5] [--bounds mine,jsd] [--threads 1]

Gaussian pairs of one dimension (rho 0 to 0.95), and of twenty with 2 to 10 nat spread evenly over them, plain and with
y cubed, which changes no information. Every critic is trained on batches of 64 and read on pairs of its own. The true
ratio is the same read-out with the true density ratio: the floor of sampling noise. ``own`` is the mean of the trained
bound's own value: InfoNCE's stays under ln 64. KSG is scikit-learn's for one dimension; for twenty, the first
estimator of Kraskov et al. 2004, Eq. 8.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
import sklearn
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from medmi.information import BOUNDS, CriticTraining, MutualInformationNeuralEstimator
from medmi.information.pairs import derangements
from medmi.networks import StatisticsNetwork

BATCH = 64


@dataclass(frozen=True)
class Task:
    """A Gaussian pair of ``dimensions`` equally correlated coordinates; ``cubed`` replaces y by y^3."""

    dimensions: int
    rho: float
    cubed: bool = False

    @property
    def truth(self) -> float:
        return -0.5 * self.dimensions * math.log(1 - self.rho**2)

    @property
    def name(self) -> str:
        return f"d = {self.dimensions:2d} rho {self.rho:.3f}{' cubed' if self.cubed else ''}"

    def sample(self, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x, noise = (torch.randn(size, self.dimensions, generator=generator) for _ in range(2))
        y = self.rho * x + math.sqrt(1 - self.rho**2) * noise
        return x, y**3 if self.cubed else y

    def log_ratio(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.cubed:
            y = y.sign() * y.abs() ** (1 / 3)
        square = 1 - self.rho**2
        form = (self.rho**2 * (x**2 + y**2) - 2 * self.rho * x * y) / (2 * square)
        return (-0.5 * math.log(square) - form).sum(1)


def of_nats(nats: float, dimensions: int, cubed: bool = False) -> Task:
    return Task(dimensions, math.sqrt(1 - math.exp(-2 * nats / dimensions)), cubed)


def true_ratio(task: Task, size: int, seed: int) -> tuple[float, float]:
    x, y = (z.double() for z in task.sample(size, 1000 + seed))
    pairing = derangements(size, 20, torch.Generator().manual_seed(seed))
    marginal = torch.stack([torch.logsumexp(task.log_ratio(x, y[row]), 0) for row in pairing]) - math.log(size)
    return float(task.log_ratio(x, y).mean() - marginal.mean()), math.nan


def nearest_neighbours(task: Task, size: int, seed: int) -> tuple[float, float]:
    x, y = (z.numpy().astype(np.float64) for z in task.sample(size, 1000 + seed))
    if task.dimensions == 1:
        return float(mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=seed)[0]), math.nan
    return kraskov(x, y, 3), math.nan


def kraskov(x: np.ndarray, y: np.ndarray, neighbours: int) -> float:
    """psi(k) + psi(N) - <psi(n_x + 1) + psi(n_y + 1)>, neighbours counted in the maximum norm."""
    x, y = ((z - z.mean(0)) / z.std(0) for z in (x, y))
    radius = np.nextafter(cKDTree(np.hstack([x, y])).query(np.hstack([x, y]), neighbours + 1, p=np.inf)[0][:, -1], 0)
    counts = [cKDTree(z).query_ball_point(z, radius, p=np.inf, return_length=True) for z in (x, y)]
    return float(digamma(neighbours) + digamma(len(x)) - sum(digamma(n).mean() for n in counts))


def neural(bound: str, steps: int) -> Callable[[Task, int, int], tuple[float, float]]:
    def run(task: Task, size: int, seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        width, rate = (100, 5e-3) if task.dimensions == 1 else (256, 1e-3)
        critic = StatisticsNetwork(task.dimensions, task.dimensions, hidden=(width, width))
        training = CriticTraining(steps=steps, learning_rate=rate, patience=20)
        estimator = MutualInformationNeuralEstimator(bound, critic, BATCH, seed, training)
        estimate = estimator.fit(*task.sample(size, seed)).estimate(*task.sample(size, 1000 + seed))
        return estimate.value, estimate.divergence

    return run


def header() -> str:
    machine = f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    packages = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, np, scipy, sklearn))
    return f"{datetime.date.today()}; {machine}; python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few tasks, two seeds, short training")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--bounds", default=",".join(BOUNDS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    seeds, size, steps = (2, 2000, 200) if options.quick else (3, 10_000, 1000)
    correlations, nats = (
        ((0.0, 0.8), (2,)) if options.quick else ((0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95), (2, 4, 6, 8, 10))
    )
    tasks = [Task(1, rho) for rho in correlations]
    tasks += [of_nats(n, 20, cubed) for cubed in ((False,) if options.quick else (False, True)) for n in nats]
    estimators = {name: neural(name, steps) for name in options.bounds.split(",")}
    estimators |= {"KSG": nearest_neighbours, "true ratio": true_ratio}
    torch.set_num_threads(options.threads)
    print(header())
    print(f"{size} pairs to train, {size} to read, batch {BATCH} (ln {BATCH} = {math.log(BATCH):.3f}), nat")
    print(f"{'task':24s} {'estimator':10s} {'truth':>7s} {'mean':>7s} {'bias':>7s} {'std':>7s} {'own':>9s} {'s':>6s}")
    for task in tasks:
        for name, estimate in estimators.items():
            began = time.perf_counter()
            found = np.array([estimate(task, size, seed) for seed in range(options.seeds or seeds)])
            mean, own = found.mean(0)
            spread = found[:, 0].std(ddof=1) if len(found) > 1 else math.nan
            print(
                f"{task.name:24s} {name:10s} {task.truth:7.3f} {mean:7.3f} {mean - task.truth:+7.3f} "
                f"{spread:7.3f} {own:9.3f} {(time.perf_counter() - began) / len(found):6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
