"""What matters in training a registration network on slices of 32 x 32 voxels: one change at a time, on real patients.

    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial_ablation.py -o DIR [--rows wgan ...]

MR to simulated ultrasound as in ``adversarial.py``, whose split by patient and settings it takes. Errors are those of the
test patients after two passes; each training is of the same seed. Rows that see true transforms say ``supervised``.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from adversarial import SEEDS, config_of, image_files, row

from medmi.apps.config import PairFiles, TrainingConfig
from medmi.apps.train import build_training, patients, run_training, validation_batches
from medmi.engines import Checkpoints, pose_errors_mm
from medmi.networks.registration_predictor import RegistrationPredictor
from medmi.simulation.sources import Source

SIZE, EPOCHS, PASSES, PAIRS = 32, 6, 2, 256
Change = Callable[[TrainingConfig], TrainingConfig]


def network(**items: object) -> Change:
    """Change items of the architecture."""
    return lambda config: replace(config, network=replace(config.network, **items))


def options(**items: object) -> Change:
    """Change items of the game."""
    return lambda config: replace(config, adversarial=replace(config.adversarial, **items))


def schedule(**items: object) -> Change:
    """Change items of the schedule."""
    return lambda config: replace(config, schedule=replace(config.schedule, **items))


def critics(count: int) -> Change:
    """Several discriminator steps for each of the generator, all on as many samples as before."""
    # The batch first: a configuration refuses one that the steps cannot share.
    return lambda config: options(n_critic=count)(schedule(batch_size=count * config.schedule.batch_size)(config))


# Method and change of each row.
ROWS: dict[str, tuple[str, Change]] = {
    "wgan": ("wgan", options()),
    "wgan, no instance norm": ("wgan", network(instance_norm=False)),
    "wgan, no second pass in training": ("wgan", options(second_pass=0.0)),
    "wgan, half the samples": ("wgan", schedule(epochs=EPOCHS // 2)),
    "wgan, half the generator steps, n_critic 3": (
        "wgan",
        lambda config: critics(3)(schedule(epochs=EPOCHS // 2)(config)),
    ),
    "wgan, twice the samples": ("wgan", schedule(epochs=EPOCHS * 2)),
    "wgan, every simulation drawn 96 times": ("wgan", schedule(reuse=96)),
    "wgan + 0.1 supervised": ("wgan_supervised", options()),
    "wgan + 1.0 supervised": ("wgan_supervised", options(reconstruction_weight=1.0)),
    "supervised": ("supervised", options()),
    "supervised, no instance norm": ("supervised", network(instance_norm=False)),
    "supervised, half the samples": ("supervised", schedule(epochs=EPOCHS // 2)),
    "supervised, twice the samples": ("supervised", schedule(epochs=EPOCHS * 2)),
    "supervised, every simulation drawn 96 times": ("supervised", schedule(reuse=96)),
    "gan": ("gan", options()),
    "mutual information": ("mi", options()),
    "linearised mutual information": ("lmi", options()),
    "mine": ("mine", options()),
}


def measured(
    config: TrainingConfig, sources: dict[str, list[Source]], folder: pathlib.Path
) -> tuple[torch.Tensor, float]:
    """Errors in mm of the best network after the passes, and the seconds of its training."""
    training, began = build_training(config, sources["train"], sources["validation"]), time.process_time()
    run_training(training, Checkpoints(folder, every=100))
    seconds = time.process_time() - began
    generator = RegistrationPredictor.load(folder / "network.pt").generator
    tests = replace(config, schedule=replace(config.schedule, validation_pairs=PAIRS, seed=SEEDS["test"]))
    grids = (config.network.grid, config.network.source_grid)
    return pose_errors_mm(generator, validation_batches(tests, sources["test"]), grids, PASSES)[-1], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = pathlib.Path(os.environ["MEDMI_TEST_DATA"]) / "ct-mr-pet"
    names = image_files(folder)
    first = config_of("wgan", SIZE, EPOCHS, names)
    sources = {part: patients(first, tuple(map(PairFiles, names[part])), folder) for part in names}
    print("| training | mean mm | median | under 5 mm | CPU |\n|---|---|---|---|---|", flush=True)
    for name in arguments.rows:
        method, change = ROWS[name]
        config = change(config_of(method, SIZE, EPOCHS, names))
        errors, seconds = measured(config, sources, arguments.out / name.replace(" ", "_"))
        print(f"{row(name, errors)} {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
