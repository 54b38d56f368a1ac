"""What matters in training a registration network on slices of 32 x 32 voxels: one change at a time, on real patients.

    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial_ablation.py -o DIR [--rows wgan ...] [--seeds 0 1 2]

MR to simulated ultrasound as in ``adversarial.py``, whose split by patient and settings it takes. Errors are those of the
test patients after two passes. Rows that see true transforms say ``supervised``; ``both`` is a supervised and an
adversarial loss in one training, of the same batches and rates as the supervised one. Of *few* patients the truth and
the registered examples are known; which ones, goes by the seed. Other patients take part by the adversarial loss alone.
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
from medmi.networks.registration_judge import Judge
from medmi.networks.registration_predictor import RegistrationPredictor

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


def few(count: int, others: bool, then: Change = lambda config: config) -> Change:
    """So many patients registered, spread over all; the others unregistered or left out."""

    def change(config: TrainingConfig) -> TrainingConfig:
        train = config.data.train
        known = train[config.schedule.seed % 6 :: 6][:count]
        train = tuple(replace(files, registered=files in known) for files in train if others or files in known)
        return then(replace(config, data=replace(config.data, train=train)))

    return change


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
    # At 1 the adversarial gradient is a thirtieth of the supervised one.
    "both, adversarial 100": ("wgan_supervised", options(adversarial_weight=100.0)),
    "both, adversarial 30": ("wgan_supervised", options(adversarial_weight=30.0)),
    "both, adversarial 1": ("wgan_supervised", options()),
    "both, adversarial 0.1": ("wgan_supervised", options(adversarial_weight=0.1)),
    "both, adversarial 0.01": ("wgan_supervised", options(adversarial_weight=0.01)),
    "both, gan 1": ("wgan_supervised", options(game="gan_log_d", penalty=1.0)),
    "both, gan 0.1": ("wgan_supervised", options(game="gan_log_d", penalty=1.0, adversarial_weight=0.1)),
    "supervised": ("supervised", options()),
    "supervised, no instance norm": ("supervised", network(instance_norm=False)),
    "supervised, half the samples": ("supervised", schedule(epochs=EPOCHS // 2)),
    "supervised, twice the samples": ("supervised", schedule(epochs=EPOCHS * 2)),
    "supervised, four times the samples": ("supervised", schedule(epochs=EPOCHS * 4)),
    "supervised, every simulation drawn 96 times": ("supervised", schedule(reuse=96)),
    "gan": ("gan", options()),
    "mutual information": ("mi", options()),
    "linearised mutual information": ("lmi", options()),
    "mine": ("mine", options()),
    "few (3), supervised": ("supervised", few(3, False)),
    "few (3), supervised, four times the samples": ("supervised", few(3, False, schedule(epochs=EPOCHS * 4))),
    "few (3), both, adversarial 1, others left out": ("wgan_supervised", few(3, False)),
    "few (3), both, adversarial 1": ("wgan_supervised", few(3, True)),
    "few (3), both, adversarial 30": ("wgan_supervised", few(3, True, options(adversarial_weight=30.0))),
    "few (3), wgan": ("wgan", few(3, True)),
    "few (1), supervised, four times the samples": ("supervised", few(1, False, schedule(epochs=EPOCHS * 4))),
    "few (1), both, adversarial 30": ("wgan_supervised", few(1, True, options(adversarial_weight=30.0))),
}


def seeded(config: TrainingConfig, seed: int) -> TrainingConfig:
    """Of another seed."""
    return replace(
        config, schedule=replace(config.schedule, seed=seed), adversarial=replace(config.adversarial, seed=seed)
    )


def measured(
    config: TrainingConfig, tests: tuple[PairFiles, ...], base: pathlib.Path, folder: pathlib.Path, judge: Judge | None
) -> tuple[dict[str, torch.Tensor], float]:
    """Errors in mm of the best network after the passes and of the judge's choice, its own judge's where none is given; CPU seconds."""
    data = config.data
    known, validation, others = (
        patients(config, part, base) if part else [] for part in (data.registered, data.validation, data.unregistered)
    )
    training, began = build_training(config, known, validation, others), time.process_time()
    run_training(training, Checkpoints(folder, every=100))
    seconds = time.process_time() - began
    best = RegistrationPredictor.load(folder / "network.pt")
    of_tests = replace(config, schedule=replace(config.schedule, validation_pairs=PAIRS, seed=SEEDS["test"]))
    grids = (config.network.grid, config.network.source_grid)
    batches = validation_batches(of_tests, patients(config, tests, base))
    errors = pose_errors_mm(best.generator, batches, grids, PASSES, judge or best.judge)[PASSES:]
    return dict(zip(("", ", judged"), errors)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--judge", type=pathlib.Path, help="a network file with a discriminator that judges every row")
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = pathlib.Path(os.environ["MEDMI_TEST_DATA"]) / "ct-mr-pet"
    files = image_files(folder)
    judge = RegistrationPredictor.load(arguments.judge).judge if arguments.judge else None
    print("| training | mean mm | median | under 5 mm | CPU |\n|---|---|---|---|---|", flush=True)
    for name in arguments.rows:
        method, change = ROWS[name]
        found: dict[str, list[float]] = {}
        for seed in arguments.seeds:
            config = change(seeded(config_of(method, SIZE, EPOCHS, files), seed))
            place = arguments.out / f"{name.replace(' ', '_')}_{seed}"
            errors, seconds = measured(config, files["test"], folder, place, judge)
            for way, values in errors.items():
                print(f"{row(f'{name}, seed {seed}{way}', values)} {seconds:.0f} s |", flush=True)
                found.setdefault(way, []).append(float(values.mean()))
        for way, means in found.items():
            spread = f"{sum(means) / len(means):.2f} ({min(means):.2f} to {max(means):.2f})"
            print(f"| {name}{way}, {len(means)} seeds | {spread} |", flush=True)


if __name__ == "__main__":
    main()
