"""Rigid registration on the processor and on a device: seconds of one pair and of many at once, and how far the answers lie apart.

    MEDMI_TEST_DATA=... python examples/benchmarks/devices.py --device cuda

T1 and T2 templates resampled to 256 x 256 x 256 voxels of 1 mm, the T2 turned by its header. The first call of each is not counted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import torch
from monai.data import MetaTensor

from medmi import Grid, RegistrationResult, apply, register, register_batch
from medmi.io import read_image
from medmi.spatial import LinearTransform

SIZE, PAIRS, ROUNDS = 256, 32, 5
NAMES = ("spm12_avg152T1.nii.gz", "spm12_avg152T2.nii.gz")
# Radians and mm.
MOTION = torch.tensor([8.0, -12.0, 9.0, 0.3, -0.2, 0.4], dtype=torch.float64)


def large(path: pathlib.Path) -> MetaTensor:
    """An image on the large grid."""
    image = read_image(path)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, 3] = Grid.of(image).centre - (SIZE - 1) / 2
    reference = MetaTensor(torch.zeros(1, SIZE, SIZE, SIZE), affine=affine)
    return apply(image, LinearTransform(torch.eye(4, dtype=torch.float64)), reference)


def turned(image: MetaTensor) -> MetaTensor:
    """The image with a motion in its header."""
    motion = LinearTransform.from_parameters(MOTION, "rigid", Grid.of(image).centre)
    return MetaTensor(image.as_tensor(), affine=motion.matrix @ image.affine.double())


def timed(call: Callable[[], list[RegistrationResult]]) -> tuple[float, list[RegistrationResult]]:
    """Median seconds of some calls after one that is not counted."""
    results, seconds = call(), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        results = call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = pathlib.Path(os.environ["MEDMI_TEST_DATA"]) / "templates-mni"
    fixed, moving = (large(folder / name) for name in NAMES)
    moving = turned(moving)
    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.processor()
    print(
        f"{datetime.date.today()}, {platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, {name}"
    )
    print(
        f"{SIZE}^3 voxels\n\n| where | one pair, s | {PAIRS} pairs at once, ms each | voxels from cpu |\n|---|---|---|---|"
    )
    corners, cpu = Grid.of(fixed).corners, None
    for device in dict.fromkeys(("cpu", arguments.device)):
        options = {"device": device, "threads": arguments.threads}
        one, (result,) = timed(lambda options=options: [register(fixed, moving, **options)])
        many, _ = timed(lambda options=options: register_batch([(fixed, moving)] * PAIRS, **options))
        cpu = cpu or result
        apart = (result.transform.points(corners) - cpu.transform.points(corners)).norm(dim=-1).max()
        print(f"| {device} | {one:.3f} | {1000 * many / PAIRS:.0f} | {float(apart):.3f} |", flush=True)


if __name__ == "__main__":
    main()
