"""Mutual information of a handwritten digit and two numbers, after Fleuret: the truth is the entropy of the class.

    MEDMI_TEST_DATA=folder python examples/seeds/image_values_information.py [--classes 2 5 10] [--steps 1500]

The numbers are u and u + class + v with u uniform in [0, 3) and v in [0, 1): only their difference tells the class, and
all that it tells. ``folder/mnist`` holds the two ``t10k`` files of MNIST. Results are in bits, as published.
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import pathlib
import time

import numpy as np
import torch
from torch import Tensor

from medmi.information import CriticTraining, MutualInformationNeuralEstimator
from medmi.networks import ImageValuesCritic


def read_idx(path: pathlib.Path) -> Tensor:
    """An idx file: two zero bytes, a type byte, the number of axes, their lengths, then the values."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">i4", raw[3], 4)
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy())


def digits_with_values(images: Tensor, labels: Tensor, size: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """``size`` digits, the class of each drawn with equal odds, and their two numbers."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(classes, (size,), generator=generator)
    digit = torch.empty(size, dtype=torch.long)
    for label in range(classes):
        members, where = ((z == label).nonzero()[:, 0] for z in (labels, drawn))
        digit[where] = members[torch.randint(len(members), (len(where),), generator=generator)]
    u, v = 3 * torch.rand(size, generator=generator), torch.rand(size, generator=generator)
    return images[digit], torch.stack([u, u + drawn + v], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--bound", default="jsd")
    options = parser.parse_args()
    folder = pathlib.Path(os.environ["MEDMI_TEST_DATA"]) / "mnist"
    images = read_idx(folder / "t10k-images-idx3-ubyte.gz")[:, None].float() / 255
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")
    training = CriticTraining(steps=options.steps, learning_rate=2e-3, marginals=16, patience=options.steps)
    for classes in options.classes:
        began = time.perf_counter()
        torch.manual_seed(0)
        estimator = MutualInformationNeuralEstimator(options.bound, ImageValuesCritic(2), 64, training=training)
        estimator.fit(*digits_with_values(images[:8000], labels[:8000], 12_000, classes, seed=0))
        found = estimator.estimate(*digits_with_values(images[8000:], labels[8000:], 3000, classes, seed=1), 20)
        value, low, high = (bits / math.log(2) for bits in (found.value, found.low, found.high))
        print(
            f"{classes:2d} classes: {value:.3f} [{low:.3f}, {high:.3f}] of {math.log2(classes):.3f} bit, "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
