"""The runs that the confidence is calibrated and tested on: real pairs, spoilt in the ways that scans are, at known motions.

Words: a *pair* is two images of one patient in one frame; all templates count as one patient. A *spoil* takes something from the
moving image: noise, field of view, resolution. A *case* is a pair, a spoil, a motion of the moving header and options of the solver.
The truth of a case is its motion, as far as the headers of the pair agree: ``MOVED_MM`` says how far a patient moved between two scans.
Points are ITK's: LPS mm.
"""

from __future__ import annotations

import pathlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from peer_pairs import MOST_POINTS, MOTIONS
from scipy.spatial.transform import Rotation

from medmi.io.itk import from_sitk, to_sitk
from medmi.simulation.ultrasound import simulate_ultrasound

Array = np.ndarray
T1_ALONE = [f"STS_{k:03d}" for k in (3, 4, 6, 8, 12, 25, 26, 29, 34, 36, 38, 40)]
# How far a rigid registration from the headers moves the corners of the tumour box, mm: T1 onto CT, PET onto CT.
MOVED_MM = {
    "STS_002": (4.0, 6.4),
    "STS_014": (3.6, 5.8),
    "STS_015": (4.5, 5.4),
    "STS_018": (5.3, 2.2),
    "STS_023": (2.7, 6.8),
    "STS_024": (3.1, 5.2),
    "STS_031": (5.6, 5.3),
    "STS_032": (2.9, 3.5),
    "STS_033": (4.1, 4.0),
    "STS_035": (1.3, 3.6),
    "STS_041": (5.1, 6.0),
    "STS_042": (2.6, 2.2),
    "STS_043": (3.9, 4.9),
    "STS_047": (2.1, 2.6),
    "STS_048": (1.5, 0.9),
    "STS_050": (4.9, 4.0),
}
THREE_SCANS = list(MOVED_MM)


@dataclass(frozen=True)
class Source:
    """An image: a file below the folder of real images, the ``way`` it is seen (a row of ``WAYS``), and whether as one slice."""

    file: str
    way: str = "as it is"
    onto: str | None = None
    slice: bool = False


@dataclass(frozen=True)
class Case:
    """One run: patient, name of the pair, its images, spoil, motion (a row of ``MOTIONS``), family, similarity, start and seed."""

    patient: str
    pair: str
    fixed: Source
    moving: Source
    spoil: str
    motion: str
    transform: str = "rigid"
    similarity: str = "mi"
    initial: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """A case in memory: its images, and the true images ``truth (N, d)`` of ``points (N, d)`` of the fixed foreground."""

    fixed: sitk.Image
    moving: sitk.Image
    points: Array
    truth: Array


def like(voxels: Array, image: sitk.Image) -> sitk.Image:
    out = sitk.GetImageFromArray(voxels.astype(np.float32))
    out.CopyInformation(image)
    return out


def remapped(image: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """Another contrast: a smooth function of the intensity that is not monotonic."""
    voxels = sitk.GetArrayFromImage(image)
    low, high = np.percentile(voxels, [0.5, 99.5])
    unit, (a, b, c) = np.clip((voxels - low) / (high - low), 0, 1), rng.random(3)
    return like(np.sin(2 * np.pi * (unit * (0.6 + 0.5 * a) + b)) + 0.6 * unit * np.cos(5 * unit + 2 * np.pi * c), image)


def ultrasound(image: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    return to_sitk(simulate_ultrasound(from_sitk(image), seed=int(rng.integers(1000))))


def noisy(image: sitk.Image, rng: np.random.Generator, share: float) -> sitk.Image:
    voxels = sitk.GetArrayFromImage(image)
    low, high = np.percentile(voxels, [1, 99])
    return like(voxels + share * (high - low) * rng.normal(size=voxels.shape), image)


def biased(image: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """Brightness that changes by a factor of up to 10 along a random direction."""
    voxels, way = sitk.GetArrayFromImage(image), rng.normal(size=image.GetDimension())
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in voxels.shape], indexing="ij")
    ramp = sum(w * axis for w, axis in zip(way / np.linalg.norm(way), axes))
    return like((voxels - voxels.min()) * np.exp(1.2 * ramp), image)


def part(image: sitk.Image, size: Array, start: Array) -> sitk.Image:
    return sitk.RegionOfInterest(image, [int(n) for n in size], [int(n) for n in start])


def slab(image: sitk.Image, rng: np.random.Generator, mm: float) -> sitk.Image:
    """Some slices around the middle, across the coarsest axis (any where all are alike)."""
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    axis = int(np.argmax(spacing)) if np.ptp(spacing) > 1e-3 else int(rng.integers(len(size)))
    count = int(np.clip(round(mm / spacing[axis]), 3, size[axis]))
    start = np.zeros(len(size), int)
    start[axis] = int((size[axis] - count) * rng.uniform(0.25, 0.75))
    return part(image, np.where(np.arange(len(size)) == axis, count, size), start)


def cropped(image: sitk.Image, rng: np.random.Generator, share: float) -> sitk.Image:
    size = np.array(image.GetSize())
    kept = np.maximum(3, np.round(size * share)).astype(int)
    return part(image, kept, [rng.integers(0, n - k + 1) for n, k in zip(size, kept)])


def end(image: sitk.Image, share: float, upper: bool) -> sitk.Image:
    """One end along the longest axis: two opposite ends of 60% each overlap by a third."""
    size = np.array(image.GetSize())
    axis = int(np.argmax(size * np.array(image.GetSpacing())))
    kept = np.where(np.arange(len(size)) == axis, np.round(share * size), size).astype(int)
    return part(image, kept, (size - kept) * upper)


def coarse(image: sitk.Image, mm: float) -> sitk.Image:
    factors = [max(1, min(round(mm / s), n // 4)) for s, n in zip(image.GetSpacing(), image.GetSize())]
    return sitk.BinShrink(image, factors)


WAYS: dict[str, Callable[[sitk.Image, np.random.Generator], sitk.Image]] = {
    "as it is": lambda image, rng: image,
    "remapped": remapped,
    "ultrasound": ultrasound,
}
SPOILS: dict[str, Callable[[sitk.Image, np.random.Generator], sitk.Image]] = {
    "none": lambda image, rng: image,
    "noise": lambda image, rng: noisy(image, rng, 0.25),
    "much noise": lambda image, rng: noisy(image, rng, 0.6),
    "bias": biased,
    "slab 40 mm": lambda image, rng: slab(image, rng, 40),
    "slab 20 mm": lambda image, rng: slab(image, rng, 20),
    "cropped 50%": lambda image, rng: cropped(image, rng, 0.5),
    "cropped 35%": lambda image, rng: cropped(image, rng, 0.35),
    "coarse 7 mm": lambda image, rng: coarse(image, 7),
    "thin overlap": lambda image, rng: end(image, 0.6, upper=True),
    "no overlap": lambda image, rng: end(image, 0.4, upper=True),
}
# What the fixed image keeps where both ends are cut.
FIXED_SPOILS = {"thin overlap": 0.6, "no overlap": 0.4}


def pairs() -> Iterator[tuple[str, str, Source, Source]]:
    """Patient, name, fixed and moving of every pair."""
    for patient in THREE_SCANS:
        ct, t1, pet = (f"ct-mr-pet/{patient}/{kind}_image.nii.gz" for kind in ("CT", "MR_T1", "PET"))
        for name, fixed, moving in (("CT-T1", ct, t1), ("CT-PET", ct, pet), ("T1-CT", t1, ct), ("PET-CT", pet, ct)):
            yield patient, name, Source(fixed), Source(moving)
        yield patient, "T1-remapped", Source(t1), Source(t1, "remapped")
        yield patient, "CT-T1 slice", Source(ct, slice=True), Source(t1, onto=ct, slice=True)
    for patient in T1_ALONE:
        t1 = f"ct-mr-pet/{patient}/MR_T1_image.nii.gz"
        yield patient, "T1-remapped", Source(t1), Source(t1, "remapped")
        yield patient, "T1-ultrasound", Source(t1), Source(t1, "ultrasound")
        yield patient, "T1-remapped slice", Source(t1, slice=True), Source(t1, "remapped", slice=True)
    files = {
        "T1": "spm12_avg152T1",
        "T2": "spm12_avg152T2",
        "PD": "spm12_avg152PD",
        "CT": "clinical_scct_CT",
        "PET": "spm12_PET",
    }
    for a, b in map(str.split, ("T1 T2", "T1 PD", "T1 CT", "T1 PET", "T2 CT", "PD T1", "CT T1")):
        first, second = (f"templates-mni/{files[k]}.nii.gz" for k in (a, b))
        yield "templates", f"{a}-{b}", Source(first), Source(second)
    for a, b in map(str.split, ("T1 T2", "T1 PD", "CT T1")):
        first, second = (f"templates-mni/{files[k]}.nii.gz" for k in (a, b))
        yield "templates", f"{a}-{b} slice", Source(first, slice=True), Source(second, slice=True)
    yield "spine", "T1-T2", Source("spine-t1-t2/t1w.nii.gz"), Source("spine-t1-t2/t2.nii.gz")
    yield "spine", "T2-T1", Source("spine-t1-t2/t2.nii.gz"), Source("spine-t1-t2/t1w.nii.gz")
    yield "oblique", "T1-EPI", Source("oblique/someones_anatomy.nii.gz"), Source("oblique/someones_epi.nii.gz")
    plane = [f"2d-known-transforms/Brain{k}SliceBorder20.png" for k in ("T1", "ProtonDensity")]
    yield "slice", "T1-PD", Source(plane[0]), Source(plane[1])


def moved_mm(patient: str, pair: str) -> float:
    """How far the truth of a pair may be off, because the patient moved between its two scans."""
    two_scans = ("CT" in pair and "T1" in pair) or "PET" in pair
    return MOVED_MM[patient]["PET" in pair] if patient in MOVED_MM and two_scans else 0.0


def drawn(count: int, seed: int) -> Iterator[Case]:
    """Cases with natural failures: every pair in turn, with a spoil, a motion, a family and a similarity drawn for it."""
    rng, every = np.random.default_rng(seed), list(pairs())
    spoils = ["none", "none", *[name for name in SPOILS if name != "no overlap"]]
    for number in range(count):
        if number % len(every) == 0:
            order = rng.permutation(len(every))
        patient, name, fixed, moving = every[order[number % len(every)]]
        spoil, motion = str(rng.choice(spoils)), str(rng.choice(list(MOTIONS)))
        family = str(rng.choice(["rigid", "similarity", "affine"], p=[0.84, 0.08, 0.08]))
        term = str(rng.choice(["mi", "nmi"], p=[0.85, 0.15]))
        yield Case(patient, name, fixed, moving, spoil, motion, family, term, seed=number)


def made_failures(seed: int) -> Iterator[Case]:
    """Cases that cannot succeed: another patient's image, ends that do not overlap, no search from far away."""
    rng = np.random.default_rng(seed)
    for k, patient in enumerate(THREE_SCANS):
        ct, t1 = (f"ct-mr-pet/{patient}/{kind}_image.nii.gz" for kind in ("CT", "MR_T1"))
        other = f"ct-mr-pet/{THREE_SCANS[(k + 5) % len(THREE_SCANS)]}/MR_T1_image.nii.gz"
        motion = str(rng.choice(list(MOTIONS)))
        yield Case(patient, "wrong patient", Source(ct), Source(other), "none", motion, seed=k)
        yield Case(patient, "no overlap", Source(ct), Source(t1), "no overlap", "20", seed=k)
        yield Case(patient, "search off", Source(ct), Source(t1), "none", "60", initial="identity", seed=k)


def make(case: Case, folder: pathlib.Path) -> Made:
    """Read, spoil and turn the images of a case."""
    words = f"{case.patient} {case.pair} {case.spoil} {case.motion} {case.seed}"
    rng = np.random.default_rng(zlib.crc32(words.encode()))
    fixed, moving = (seen(source, folder, rng) for source in (case.fixed, case.moving))
    if case.spoil in FIXED_SPOILS:
        fixed = end(fixed, FIXED_SPOILS[case.spoil], upper=False)
    moving, motion = turned(SPOILS[case.spoil](moving, rng), case.motion, rng)
    points = foreground(fixed)
    return Made(fixed, moving, points, motion(points))


def seen(source: Source, folder: pathlib.Path, rng: np.random.Generator) -> sitk.Image:
    image = sitk.ReadImage(str(folder / source.file))
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    image = sitk.Cast(image, sitk.sitkFloat32)
    if source.onto is not None:
        image = sitk.Resample(image, sitk.ReadImage(str(folder / source.onto)), sitk.Transform(), sitk.sitkLinear, 0.0)
    image = WAYS[source.way](image, rng)
    return image[:, :, image.GetSize()[2] // 2] if source.slice else image


def turned(image: sitk.Image, name: str, rng: np.random.Generator) -> tuple[sitk.Image, Callable[[Array], Array]]:
    """The image with its header turned about its middle and shifted, and that motion as a map of points ``(N, d)``."""
    degrees, mm = MOTIONS[name]
    d = image.GetDimension()
    axis, way = rng.normal(size=3) * ((0, 0, 1) if d == 2 else (1, 1, 1)), rng.normal(size=d)
    turn = Rotation.from_rotvec(degrees * axis / np.linalg.norm(axis), degrees=True).as_matrix()[:d, :d]
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    goal = middle + mm * way / np.linalg.norm(way)

    def motion(points: Array) -> Array:
        return (points - middle) @ turn.T + goal

    out = sitk.Image(image)
    out.SetOrigin(motion(np.array(image.GetOrigin())).tolist())
    out.SetDirection((turn @ np.reshape(image.GetDirection(), (d, d))).ravel().tolist())
    return out, motion


def foreground(image: sitk.Image) -> Array:
    """Points ``(N, d)`` of at most ``MOST_POINTS`` voxels brighter than Otsu's threshold."""
    index = np.argwhere(sitk.GetArrayFromImage(sitk.OtsuThreshold(image, 0, 1)).T > 0)
    index = index[np.random.default_rng(0).permutation(len(index))[:MOST_POINTS]]
    d = image.GetDimension()
    return index @ (np.reshape(image.GetDirection(), (d, d)) * image.GetSpacing()).T + np.array(image.GetOrigin())
