"""MR to simulated ultrasound of real patients, in slices and volumes: adversarial networks, the same generator by other losses, the solver.

    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial.py --size 32 --methods supervised wgan gan -o DIR
    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial.py --size 64 --epochs 64 --methods supervised -o DIR
    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial.py --size 24 --epochs 48 --methods supervised -o DIR
    MEDMI_TEST_DATA=... python examples/benchmarks/adversarial.py --size 24 --epochs 60 --moving ct --methods supervised -o DIR

Needs the T1 images of the soft-tissue-sarcoma patients (The Cancer Imaging Archive, CC BY 3.0) under ``ct-mr-pet``.
Eight patients are for the test alone, three choose the best epoch, the others train. Each method writes what ``medmi
train`` writes into DIR/METHOD; the table goes to stdout. Ultrasound is simulated, so the truth of every pose is exact;
the numbers say nothing about a real probe. The truth of T1 and CT is their headers', from which limbs moved by 1 to
6 mm. ``supervised`` sees the true transforms and is no adversarial training.
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
from adversarial_refinement import REFINEMENTS, Batch, error_mm, refined
from torch import Tensor

from medmi.apps.config import DataConfig, PairFiles, ScheduleConfig, TrainingConfig
from medmi.apps.train import SUCCESS_MM, build_training, patients, run_training, validation_batches
from medmi.engines import AdversarialOptions, Checkpoints, pose_errors_mm
from medmi.grid import Grid
from medmi.networks.registration_architecture import Architecture
from medmi.networks.registration_judge import CANDIDATES
from medmi.networks.registration_passes import passed_poses
from medmi.networks.registration_predictor import RegistrationPredictor
from medmi.simulation.augmentation import Augmentation
from medmi.simulation.pairs import Extent
from medmi.simulation.views import Views

TEST = (29, 31, 32, 33, 34, 35, 36, 38)
VALIDATION = (42, 43, 47)
SIZES = {
    32: Architecture(2, 32, 4.0, design="published", channels=32, pool=2),
    64: Architecture(2, 64, 2.0, design="modern", channels=128, pool=1),
    24: Architecture(3, 24, 6.0, design="modern", channels=128, stages=2, pool=2),
    40: Architecture(3, 40, 4.0, design="modern", channels=128, pool=1),
}
# Without a discriminator, or with the truth beside it, rates and batches are twice as large; MINE's own critic learns
# with the generator.
ALONE = AdversarialOptions(adversarial_weight=0.0, reconstruction_weight=1.0, second_pass=0.5)
METHODS: dict[str, tuple[AdversarialOptions, str, float]] = {
    "supervised": (ALONE, "supervised", 1e-3),
    "gan": (AdversarialOptions("gan_log_d", penalty=1.0, second_pass=0.5), "none", 5e-4),
    "wgan": (AdversarialOptions("wgan", penalty=10.0, second_pass=0.5), "none", 5e-4),
    "mi": (ALONE, "mi", 1e-3),
    "lmi": (ALONE, "lmi", 1e-3),
    "mine": (ALONE, "mine", 1e-3),
    "wgan_supervised": (AdversarialOptions("wgan", reconstruction_weight=1.0, second_pass=0.5), "supervised", 1e-3),
}
# Few patients have a CT: those are drawn twice as often, T1 through two random curves stands for the other modalities of all.
CT_SHARE, CURVE = 2, 1.0
PASSES = 3
Files = dict[str, tuple[PairFiles, ...]]
SEEDS = {"test": 1000, "validation": 2000}
# Volumes: the first pairs show the T1 twice; networks that saw ultrasound from the start were far behind after as long.
# And 17 patients are few: views stretch them into others.
ALIKE, STRAIN = 768, 0.3


def config_of(method: str, size: int, epochs: int, files: Files) -> TrainingConfig:
    """The configuration of a method."""
    options, reconstruction, rate = METHODS[method]
    flat, blind = SIZES[size].spatial_dims == 2, reconstruction == "none"
    simulated = files["train"][0].moving is None
    data = DataConfig(
        files["train"], files["validation"], slices=flat, simulate="ultrasound" if simulated else "none",
        modalities=("T1", "simulated US" if simulated else "CT"),
    )  # fmt: skip
    schedule = ScheduleConfig(
        epochs=epochs, batch_size=16 if blind else 32, generator_rate=rate,
        warm_steps=400 if blind else 200, buffer=512 if flat else 256, reuse=12 if flat else 32,
        alike=0 if flat else ALIKE, validation_pairs=256 if flat else 96, candidates=CANDIDATES if options.adversarial_weight else 0,
    )  # fmt: skip
    views = Views(15.0, 10.0, 0.3, True, 0.0 if flat else STRAIN)
    augmentation = Augmentation() if simulated else Augmentation(curve=CURVE)
    return TrainingConfig(data, SIZES[size], Extent(), views, augmentation, options, reconstruction, schedule)


def image_files(folder: pathlib.Path, moving: str = "ultrasound") -> Files:
    """The images of each part, by patient: T1 alone, or with the CT of those who have one."""
    parts: dict[str, list[PairFiles]] = {"train": [], "validation": [], "test": []}
    for path in sorted(folder.glob("STS_*/MR_T1_image.nii.gz")):
        number, ct = int(path.parent.name[4:]), path.with_name("CT_image.nii.gz")
        part = "test" if number in TEST else "validation" if number in VALIDATION else "train"
        t1, other = (str(file.relative_to(folder)) for file in (path, ct))
        if moving == "ultrasound":
            parts[part].append(PairFiles(t1))
            continue
        if ct.exists():
            parts[part] += [PairFiles(t1, other)] * (CT_SHARE if part == "train" else 1)
        if part == "train":
            parts[part].append(PairFiles(t1, t1))
    return {part: tuple(pairs) for part, pairs in parts.items()}


@torch.no_grad()
def network_poses(predictor: RegistrationPredictor, batches: list[Batch]) -> list[Tensor]:
    """Poses after the predictor's passes, chosen by its judge where it has one."""
    network, grids = predictor.generator, (predictor.architecture.grid, predictor.architecture.source_grid)
    found = []
    for batch in batches:
        pair = (batch["fixed"], batch["source"])
        poses = passed_poses(network, *pair, batch["start"], grids, predictor.passes)
        found.append(poses[-1] if predictor.judge is None else predictor.judge.chosen(network, *pair, poses, grids))
    return found


def row(name: str, errors: Tensor) -> str:
    """One line of the table, but for its last field."""
    success = float((errors < SUCCESS_MM).double().mean())
    return f"| {name} | {float(errors.mean()):.2f} | {float(errors.median()):.2f} | {success:.0%} |"


def pairs_of(batches: list[Batch]) -> list[Batch]:
    """Each pair alone."""
    return [{name: value[k] for name, value in b.items()} for b in batches for k in range(len(b["fixed"]))]


def first_pairs(batches: list[Batch], count: int) -> list[Batch]:
    """The first pairs of all, in batches as they are."""
    found = []
    for batch in batches:
        if count > 0:
            found.append({name: value[:count] for name, value in batch.items()})
        count -= len(batch["fixed"])
    return found


def tell_refined(name: str, grids: tuple[Grid, Grid], batches: list[Batch], starts: list[Tensor], initial: str) -> None:
    """A line for each refinement."""
    for way in REFINEMENTS:
        began = time.process_time()
        errors = refined(grids, batches, starts, way, initial).errors
        seconds = (time.process_time() - began) / len(errors)
        print(f"{row(f'{name}: {way.name}', errors)} {1000 * seconds:.0f} ms a pair |", flush=True)


def measure(name: str, predictor: RegistrationPredictor, batches: list[Batch], few: list[Batch]) -> Tensor:
    """Lines of a network and of what the solver makes of its poses; errors after each pass."""
    grids = (predictor.architecture.grid, predictor.architecture.source_grid)
    errors = pose_errors_mm(predictor.generator, batches, grids, PASSES)
    for number in range(1, PASSES + 1):
        print(f"{row(f'{name}, pass {number}', errors[number])} |", flush=True)
    if predictor.judge is not None:
        chosen = pose_errors_mm(predictor.generator, batches, grids, predictor.passes, predictor.judge)[-1]
        print(f"{row(f'{name}, {predictor.passes} passes, judged', chosen)} |", flush=True)
    if few:
        tell_refined(f"{name}, then", grids, few, network_poses(predictor, few), "identity")
    return errors


def train(method: str, arguments: argparse.Namespace, files: Files, folder: pathlib.Path) -> pathlib.Path:
    """Train a method; the folder with its best network."""
    config = config_of(method, arguments.size, arguments.epochs, files)
    sources = [patients(config, part, folder) for part in (config.data.train, config.data.validation)]
    training, began = build_training(config, *sources), time.process_time()
    checkpoints = Checkpoints(arguments.out / method, every=8)
    run_training(training, checkpoints)
    print(f"| {method}: trained | | | | {time.process_time() - began:.0f} s |", flush=True)
    return checkpoints.folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, choices=SIZES, default=32, help="32 and 64: slices; 24 and 40: volumes")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=["supervised", "gan", "wgan"])
    parser.add_argument("--networks", nargs="*", default=[], help="trained network files, measured too")
    parser.add_argument("--judge", help="a network file whose discriminator judges these networks instead of their own")
    parser.add_argument(
        "--moving", choices=["ultrasound", "ct"], default="ultrasound", help="ct: of those who have one"
    )
    parser.add_argument("--epochs", type=int, default=16, help="of 250 steps")
    parser.add_argument("--part", choices=["test", "validation"], default="test", help="whose pairs are measured")
    parser.add_argument("--pairs", type=int, default=256, help="of these patients")
    parser.add_argument("--solver", type=int, default=0, help="pairs that the solver refines; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    if arguments.solver and arguments.moving == "ct":
        parser.error(
            "--solver: masks both images by what they show, which only simulated pairs know; leave it out for --moving ct"
        )
    torch.set_num_threads(arguments.threads)
    folder = pathlib.Path(os.environ["MEDMI_TEST_DATA"]) / "ct-mr-pet"
    files = image_files(folder, arguments.moving)
    first = config_of("supervised", arguments.size, arguments.epochs, files)
    grids = (first.network.grid, first.network.source_grid)
    measured = replace(
        first, schedule=replace(first.schedule, validation_pairs=arguments.pairs, seed=SEEDS[arguments.part])
    )
    tests = validation_batches(measured, patients(first, files[arguments.part], folder), True)
    few = first_pairs(tests, arguments.solver)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, torch {torch.__version__}, {arguments.threads} thread(s)"
    )
    shape, count = f"{arguments.size}^{SIZES[arguments.size].spatial_dims}", sum(len(b["fixed"]) for b in tests)
    print(f"{shape}, {arguments.epochs} epochs; {count} pairs of {arguments.part} patients\n")
    print("| method | mean mm | median | under 5 mm | CPU |\n|---|---|---|---|---|", flush=True)
    starts = torch.tensor([error_mm(pair, pair["start"], grids[0]) for pair in pairs_of(tests)])
    print(f"{row('start', starts)} |")
    if few:
        for initial in ("identity", "auto"):
            tell_refined(f"solver, {initial}", grids, few, [batch["start"] for batch in few], initial)
    for file in arguments.networks:
        predictor = RegistrationPredictor.load(file)
        if arguments.judge:
            predictor.judge = RegistrationPredictor.load(arguments.judge).judge
        measure(file, predictor, tests, few)
    for method in arguments.methods:
        place = train(method, arguments, files, folder)
        errors = measure(method, RegistrationPredictor.load(place / "network.pt"), tests, few)
        record = {"mean_mm": errors.mean(1).tolist(), "median_mm": errors.median(1).values.tolist()}
        (place / "test.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
