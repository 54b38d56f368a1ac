"""MR to simulated ultrasound of real patients, in slices and volumes: adversarial networks, the same generator by other losses, the solver.

    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial.py --size 32 --methods supervised wgan gan -o DIR
    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial.py --size 64 --epochs 64 --methods supervised -o DIR
    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial.py --size 24 --epochs 48 --methods supervised -o DIR

Needs the T1 images of the soft-tissue-sarcoma patients (The Cancer Imaging Archive, CC BY 3.0) under ``ct-mr-pet``.
Eight patients are for the test alone, three choose the best epoch, the others train. Each method writes what ``medmi
train`` writes into DIR/METHOD; the table goes to stdout. Ultrasound is simulated, so the truth of every pose is exact;
the numbers say nothing about a real probe. ``supervised`` sees the true transforms and is no adversarial training.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import time
from dataclasses import replace

import torch
from monai.data import MetaTensor
from torch import Tensor

from medmi import register
from medmi.apps.config import DataConfig, PairFiles, ScheduleConfig, TrainingConfig
from medmi.apps.train import SUCCESS_MM, build_training, patients, run_training, validation_batches
from medmi.engines import AdversarialOptions, Checkpoints, pose_errors_mm
from medmi.engines.stopping import mapped
from medmi.networks.registration_architecture import Architecture
from medmi.networks.registration_passes import passed_poses
from medmi.networks.registration_predictor import RegistrationPredictor
from medmi.simulation.views import Views

TEST = (29, 31, 32, 33, 34, 35, 36, 38)
VALIDATION = (42, 43, 47)
SIZES = {
    32: Architecture(2, 32, 4.0, design="published", channels=32, pool=2),
    64: Architecture(2, 64, 2.0, design="modern", channels=128, pool=1),
    24: Architecture(3, 24, 6.0, design="modern", channels=128, stages=2, pool=2),
    40: Architecture(3, 40, 4.0, design="modern", channels=128, pool=1),
}
# Without a discriminator rates are twice as high; MINE's own critic learns with the generator.
ALONE = AdversarialOptions(adversarial_weight=0.0, reconstruction_weight=1.0, second_pass=0.5)
METHODS: dict[str, tuple[AdversarialOptions, str, float]] = {
    "supervised": (ALONE, "supervised", 1e-3),
    "gan": (AdversarialOptions("gan_log_d", penalty=1.0, second_pass=0.5), "none", 5e-4),
    "wgan": (AdversarialOptions("wgan", penalty=10.0, second_pass=0.5), "none", 5e-4),
    "mi": (ALONE, "mi", 1e-3),
    "lmi": (ALONE, "lmi", 1e-3),
    "mine": (ALONE, "mine", 1e-3),
    "wgan_supervised": (AdversarialOptions("wgan", reconstruction_weight=0.1, second_pass=0.5), "supervised", 5e-4),
}
PASSES = 3
# Volumes: the first pairs show the T1 twice; networks that saw ultrasound from the start were far behind after as long.
# And 17 patients are few: views stretch them into others.
ALIKE, STRAIN = 768, 0.3


def config_of(method: str, size: int, epochs: int, names: dict[str, list[str]]) -> TrainingConfig:
    """The configuration of a method."""
    options, reconstruction, rate = METHODS[method]
    flat, alone = SIZES[size].spatial_dims == 2, options.adversarial_weight == 0
    files = {part: tuple(PairFiles(name) for name in names[part]) for part in ("train", "validation")}
    data = DataConfig(**files, simulate="ultrasound", modalities=("T1", "simulated US"), slices=flat)
    schedule = ScheduleConfig(
        epochs=epochs, batch_size=32 if alone else 16, generator_rate=rate,
        warm_steps=200 if alone else 400, buffer=512 if flat else 256, reuse=12 if flat else 32,
        alike=0 if flat else ALIKE, validation_pairs=256 if flat else 96,
    )  # fmt: skip
    views = Views(15.0, 10.0, 0.3, True, 0.0 if flat else STRAIN)
    return TrainingConfig(
        data, SIZES[size], views=views, adversarial=options, reconstruction=reconstruction, schedule=schedule
    )


def image_files(folder: pathlib.Path) -> dict[str, list[str]]:
    """The T1 images of each part, by patient."""
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for path in sorted(folder.glob("STS_*/MR_T1_image.nii.gz")):
        number = int(path.parent.name[4:])
        part = "test" if number in TEST else "validation" if number in VALIDATION else "train"
        parts[part].append(str(path.relative_to(folder)))
    return parts


def solver_errors(
    config: TrainingConfig, batches: list[dict[str, Tensor]], starts: list[Tensor], initial: str
) -> Tensor:
    """Errors in mm of the solver's MI from given poses ``(N, d + 1, d + 1)``, by the measure of the networks'."""
    grid, wide = config.network.grid, config.network.source_grid
    d = grid.spatial_dims
    points = torch.cat([grid.points().reshape(-1, d), torch.ones(grid.points()[..., 0].numel(), 1)], 1).double()
    errors = []
    for batch, poses in zip(batches, starts):
        for number, pose in enumerate(poses):
            fixed, moving = batch["fixed"][number], batch["source"][number]
            # The moving image is laid where the pose shows it, so that the identity is the start.
            placed = MetaTensor(moving, affine=torch.linalg.inv(pose) @ wide.affine)
            result = register(MetaTensor(fixed, affine=grid.affine), placed, initial=initial)
            matrix = result.transform.matrix if not result.failed else torch.eye(d + 1, dtype=torch.float64)
            true = mapped(points, (batch["start"][number] @ batch["truth"][number])[None])
            away = (mapped(points, (pose @ matrix)[None]) - true).norm(dim=-1)[0]
            errors.append(float(away[(fixed > fixed.mean()).flatten()].mean()))
    return torch.tensor(errors)


def network_poses(predictor: RegistrationPredictor, batches: list[dict[str, Tensor]], passes: int) -> list[Tensor]:
    """Poses after some passes."""
    grids = (predictor.architecture.grid, predictor.architecture.source_grid)
    with torch.no_grad():
        return [
            passed_poses(predictor.generator, b["fixed"], b["source"], b["start"], grids, passes)[-1] for b in batches
        ]


def row(name: str, errors: Tensor, seconds: float | None = None) -> str:
    """One line of the table."""
    success = float((errors < SUCCESS_MM).double().mean())
    took = "" if seconds is None else f"{seconds:.0f} s"
    return f"| {name} | {float(errors.mean()):.2f} | {float(errors.median()):.2f} | {success:.0%} | {took} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, choices=SIZES, default=32, help="32 and 64: slices; 24 and 40: volumes")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["supervised", "gan", "wgan"])
    parser.add_argument("--epochs", type=int, default=16, help="of 250 steps")
    parser.add_argument("--pairs", type=int, default=256, help="of the test patients")
    parser.add_argument("--solver", type=int, default=0, help="pairs that the solver refines; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = pathlib.Path(os.environ["MEDMI_TEST_DATA"]) / "ct-mr-pet"
    names = image_files(folder)
    first = config_of("supervised", arguments.size, arguments.epochs, names)
    sources = {part: patients(first, tuple(map(PairFiles, names[part])), folder) for part in names}
    measured = replace(first, schedule=replace(first.schedule, validation_pairs=arguments.pairs, seed=1000))
    tests = validation_batches(measured, sources["test"])
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, torch {torch.__version__}, {arguments.threads} thread(s)"
    )
    shape, count = f"{arguments.size}^{first.network.spatial_dims}", sum(len(b["fixed"]) for b in tests)
    print(f"{shape}, {arguments.epochs} epochs; {count} pairs of test patients\n")
    print("| method | mean mm | median | under 5 mm | training (CPU) |\n|---|---|---|---|---|", flush=True)
    few = [{name: value[: arguments.solver] for name, value in tests[0].items()}]
    if arguments.solver:
        for initial in ("identity", "auto"):
            errors = solver_errors(first, few, [few[0]["start"]], initial)
            print(row(f"solver, MI, {initial}", errors), flush=True)
    for method in arguments.methods:
        config = config_of(method, arguments.size, arguments.epochs, names)
        training, began = build_training(config, sources["train"], sources["validation"]), time.process_time()
        checkpoints = Checkpoints(arguments.out / method, every=8)
        run_training(training, checkpoints)
        seconds = time.process_time() - began
        best = RegistrationPredictor.load(checkpoints.folder / "network.pt")
        errors = pose_errors_mm(best.generator, tests, (config.network.grid, config.network.source_grid), PASSES)
        if method == arguments.methods[0]:
            print(row("start", errors[0]))
        for number in range(1, PASSES + 1):
            print(row(f"{method}, pass {number}", errors[number], seconds), flush=True)
        if arguments.solver:
            refined = solver_errors(config, few, network_poses(best, few, 2), "identity")
            print(row(f"{method}, 2 passes, then the solver's MI", refined), flush=True)
        record = {"mean_mm": errors.mean(1).tolist(), "median_mm": errors.median(1).values.tolist()}
        (checkpoints.folder / "test.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
