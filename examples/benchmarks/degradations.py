"""What noise and a bias field cost each similarity: mean error over the head in mm on one aligned pair of volumes.

    python examples/benchmarks/degradations.py T1.nii.gz T2.nii.gz [--seeds 3] [--terms mi,mine,lncc]

The moving header is turned and shifted by a known motion (10 degrees, 10 mm), and the solver starts from there. Both images
are degraded: by Gaussian noise, its deviation a share of the 99.9th percentile, and by bias fields, whose largest value is the
given multiple of the smallest, of unlike direction in either image, as two receiver coils would give.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform

import monai
import numpy as np
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

import medmi
from medmi.registration.neural import NeuralTerm

TERMS: dict[str, str | NeuralTerm] = {name: name for name in ("mi", "nmi", "mine", "ncc", "lncc", "mind", "lc2", "lmi")}
TERMS["mine of local contrast"] = NeuralTerm(inputs=("contrast",))
DEGREES, MILLIMETRES = 10.0, 10.0
HEAD_POINTS = 2000
# Name, share of noise, ratio of the bias field's ends.
CONDITIONS = (
    ("clean", 0.0, 1.0),
    ("noise 5%", 0.05, 1.0),
    ("noise 15%", 0.15, 1.0),
    ("bias 2x", 0.0, 2.0),
    ("bias 4x", 0.0, 4.0),
    ("both", 0.05, 2.0),
)


def degraded(image: sitk.Image, noise: float, ratio: float, rng: np.random.Generator) -> sitk.Image:
    """The image under a bias field whose ends differ ``ratio`` times, then with noise; no value is below 0."""
    voxels = sitk.GetArrayFromImage(image).astype(np.float64)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in voxels.shape], indexing="ij")
    way = rng.normal(size=3)
    slope = sum(w * axis for w, axis in zip(way / np.linalg.norm(way), axes))
    field = np.sin(1.5 * slope) + 0.5 * slope**2
    field = (field - field.min()) / np.ptp(field) - 0.5
    voxels = voxels * ratio**field + noise * np.percentile(voxels, 99.9) * rng.normal(size=voxels.shape)
    out = sitk.GetImageFromArray(np.maximum(voxels, 0).astype(np.float32))
    out.CopyInformation(image)
    return out


def turned(image: sitk.Image, rng: np.random.Generator) -> tuple[sitk.Image, np.ndarray, np.ndarray]:
    """The image with its header moved, and that motion ``R x + t``."""
    axis, way = rng.normal(size=3), rng.normal(size=3)
    turn = Rotation.from_rotvec(np.deg2rad(DEGREES) * axis / np.linalg.norm(axis)).as_matrix()
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    shift = middle - turn @ middle + MILLIMETRES * way / np.linalg.norm(way)
    out = sitk.Image(image)
    out.SetOrigin((turn @ np.array(image.GetOrigin()) + shift).tolist())
    out.SetDirection((turn @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    return out, turn, shift


def head_points(image: sitk.Image) -> np.ndarray:
    """Points ``(n, 3)`` of voxels brighter than Otsu's threshold."""
    inside = np.argwhere(sitk.GetArrayFromImage(sitk.OtsuThreshold(image, 0, 1)).T > 0)
    chosen = np.random.default_rng(0).permutation(len(inside))[:HEAD_POINTS]
    return np.array([image.TransformIndexToPhysicalPoint(inside[k].tolist()) for k in chosen])


def run(
    fixed: sitk.Image, moving: sitk.Image, term: str, condition: tuple[float, float], seed: int
) -> tuple[float, float]:
    """Mean error in mm and seconds of one registration."""
    rng = np.random.default_rng(seed)
    there, turn, shift = turned(moving, rng)
    pair = [degraded(image, *condition, rng) for image in (fixed, there)]
    result = medmi.register(*pair, similarity=TERMS[term], initial="identity", seed=seed)
    points = head_points(fixed)
    found = np.array([result.transform.to_sitk().TransformPoint(p) for p in points.tolist()])
    return float(np.linalg.norm(found - points @ turn.T - shift, axis=1).mean()), result.seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fixed", help="a volume")
    parser.add_argument("moving", help="another of the same frame")
    parser.add_argument("--seeds", type=int, default=3, help="motions, noises and fields averaged over")
    parser.add_argument("--terms", default=",".join(TERMS), help="similarities, with commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fixed, moving = (sitk.ReadImage(path, sitk.sitkFloat32) for path in (options.fixed, options.moving))
    print(f"{datetime.date.today()}  {platform.machine()}, {os.cpu_count()} cores, one thread, {platform.system()}")
    print(f"python {platform.python_version()}, torch {torch.__version__}, monai {monai.__version__}")
    print(
        f"mean error in mm over the head, mean of {options.seeds} motions of {DEGREES:g} degrees and {MILLIMETRES:g} mm\n"
    )
    print(f"{'':26s}" + "".join(f"{name:>11s}" for name, *_ in CONDITIONS) + f"{'seconds':>11s}")
    for term in options.terms.split(","):
        seconds, row = [], f"{term:26s}"
        for _, *condition in CONDITIONS:
            runs = [run(fixed, moving, term, tuple(condition), seed) for seed in range(options.seeds)]
            row += f"{np.mean([error for error, _ in runs]):11.2f}"
            seconds += [took for _, took in runs]
        print(f"{row}{np.median(seconds):11.2f}", flush=True)


if __name__ == "__main__":
    main()
