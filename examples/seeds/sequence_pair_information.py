"""Mutual information of two sequences that share a class, after Fleuret: the truth is the entropy of the class.

    python examples/seeds/sequence_pair_information.py [--classes 2 4 8] [--steps 600]

Class c makes c + 1 waves in the first sequence, of any phase, amplitude and offset, and as many square pulses in the
second, which is longer, both in noise: they share nothing but the class. Results are in bits, as published.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from torch import Tensor

from medmi.information import CriticTraining, MutualInformationNeuralEstimator
from medmi.networks import SequencePairCritic

LENGTHS = 64, 96
NOISE = 0.1


def sequences(size: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """``(size, 1, 64)`` waves and ``(size, 1, 96)`` pulses of the same numbers."""
    generator = torch.Generator().manual_seed(seed)
    cycles = 1 + torch.randint(classes, (size, 1), generator=generator)

    def angle(length: int) -> Tensor:
        phase = torch.rand(size, 1, generator=generator)
        return 2 * math.pi * (cycles * torch.arange(length) / length + phase)

    gain, offset = (torch.rand(size, 1, generator=generator) for _ in range(2))
    waves = (0.5 + gain) * angle(LENGTHS[0]).sin() + offset
    pulses = (angle(LENGTHS[1]).sin() > 0.2).float()
    noisy = [z + NOISE * torch.randn(z.shape, generator=generator) for z in (waves, pulses)]
    return noisy[0][:, None], noisy[1][:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--bound", default="jsd")
    options = parser.parse_args()
    training = CriticTraining(steps=options.steps, learning_rate=2e-3, marginals=16, patience=options.steps)
    for classes in options.classes:
        began = time.perf_counter()
        torch.manual_seed(0)
        estimator = MutualInformationNeuralEstimator(options.bound, SequencePairCritic(), 128, training=training)
        found = estimator.fit(*sequences(10_000, classes, seed=0)).estimate(*sequences(3000, classes, seed=1))
        value, low, high = (bits / math.log(2) for bits in (found.value, found.low, found.high))
        print(
            f"{classes:2d} classes: {value:.3f} [{low:.3f}, {high:.3f}] of {math.log2(classes):.3f} bit, "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
