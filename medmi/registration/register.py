"""The two calls most users need: :func:`register` finds a transform, :func:`apply` carries an image through one."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from medmi.grid import Grid
from medmi.image import Image
from medmi.registration.engine import Request, solve
from medmi.registration.freed_memory import keep_freed_memory
from medmi.registration.inputs import (
    ImageLike,
    TransformLike,
    as_device,
    as_image,
    as_start,
    as_term,
    as_transform,
    check_options,
    check_overlap,
)
from medmi.registration.neural import NeuralTerm
from medmi.registration.presets import as_preset
from medmi.registration.problem import pose_problem
from medmi.registration.result import RegistrationResult, moved_image
from medmi.spatial import SpatialTransform
from medmi.spatial.resample import INTERPOLATIONS
from medmi.validation import InputError, choose

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data import MetaTensor

    from medmi.networks import RegistrationPredictor


def register(
    fixed: ImageLike,
    moving: ImageLike,
    transform: str | Sequence[str] = "rigid",
    similarity: str | NeuralTerm | nn.Module | None = None,
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    initial: str | pathlib.Path | SpatialTransform | sitk.Transform | RegistrationPredictor = "auto",
    preset: str | pathlib.Path | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool | Callable[[float], None] = False,
    threads: int | None = None,
) -> RegistrationResult:
    """Align a moving image with a fixed one.

    Args:
        fixed: reference image: a path (file or DICOM folder), a MetaTensor ``(C, *spatial)`` or a SimpleITK image.
        moving: image to be aligned, 2D or 3D as the fixed one.
        transform: ``translation``, ``rigid``, ``similarity``, ``affine``, in 2D also ``homography``; or several, run in order. By ``mi`` or
            ``nmi`` a similarity or affine keeps size and shape where the images tell nothing of them (:mod:`medmi.registration.stiffness`).
        similarity: ``mi``, ``nmi``, ``ncc`` or ``ssd`` on sampled points; ``lmi``, ``lncc``, ``mind``, ``lc2`` or ``lc2_wide`` on the whole
            grid (slower); ``mine`` by a critic trained together with the pose, or a :class:`~medmi.registration.neural.NeuralTerm` with
            its options; or a MONAI-style loss object, lower is better, on images scaled to [0, 1]. Colour is summed over
            channels, which a critic sees together; where the channel counts differ, both images are taken as luminance. None: the
            preset's, which is ``mi`` without one.
        fixed_mask: image on the fixed grid; points are drawn where it is not 0.
        moving_mask: image on the moving grid; the moving image counts where it is not 0.
        initial: ``auto`` searches poses over all rotations, the given headers' among them, and again among more and by more points where
            the images tell little of each other or two poses fit alike; ``identity`` trusts the headers, ``geometry`` aligns the centres
            of the grids, ``moments`` those of mass; or a transform or trained network, or the path of one (``.pt``: a network).
        preset: a name of :data:`medmi.registration.presets.PRESETS`, or a YAML file as
            :func:`medmi.registration.presets.read_preset` takes it; ``default`` where none is given.
        device: ``cpu`` (the default) or ``cuda``, where poses are compared; points are drawn, and poses moved, on the processor all the
            same. Images may be on any device.
        seed: of the random draws of the search and the coarser levels; the last level draws the same points for every seed. The same call
            with the same seed gives the same bits, whatever ``threads`` is.
        progress: True shows a bar on a terminal; a function is called with the share of the work done.
        threads: that share the poses of each step; None: as many as torch takes.

    Returns:
        A :class:`RegistrationResult`. Not converging is no exception: read ``status``.

    Raises:
        InputError: an image, mask, transform or option that cannot be used; the message says which and what to do.
    """
    keep_freed_memory()
    images = [as_image(image, role) for image, role in ((fixed, "fixed"), (moving, "moving"))]
    masks = [
        None if m is None else as_image(m, role)
        for m, role in ((fixed_mask, "fixed_mask"), (moving_mask, "moving_mask"))
    ]
    families = [transform] if isinstance(transform, str) else list(transform)
    threads = torch.get_num_threads() if threads is None else threads
    check_options(families, threads, seed)
    chosen, place = as_preset(preset), as_device(device)
    term = as_term(chosen.similarity if similarity is None else similarity, place)
    plan = chosen.plan.on_whole_grids() if isinstance(term, nn.Module) else chosen.plan
    start_time = time.perf_counter()
    given = pose_problem(images[0], images[1], masks[0], masks[1])
    if given.spatial_dims == 3 and "homography" in families:
        raise InputError("transform: homography is 2D only, and the images are 3D; choose affine")
    start = as_start(initial, given)
    check_overlap(start, given)
    problem = given.smoothed(plan.smoothing)
    history: list[dict[str, float]] = []
    with reporting(progress) as report:
        for number, family in enumerate(families):
            tell = None if report is None else _part_of(report, number, len(families))
            request = Request(family, term, start, plan, seed, threads, tell, place)
            solution = solve(problem, request)
            history += solution.history
            if solution.status.startswith("failed"):
                break
            start = solution.transform
    return RegistrationResult(
        transform=solution.transform,
        status=solution.status,
        similarity=solution.similarity,
        history=history,
        seconds=time.perf_counter() - start_time,
        overlap=solution.overlap,
        fixed_grid=problem.fixed.grid,
        _moving=images[1],
        _evidence=solution.evidence,
    )


def apply(
    moving: ImageLike, transform: TransformLike, reference: ImageLike, interpolation: str = "linear"
) -> MetaTensor:
    """Carry a moving image onto the reference's grid.

    Args:
        moving: a path, a MetaTensor ``(C, *spatial)`` or a SimpleITK image.
        transform: fixed world to moving world: ours, a SimpleITK transform, or the path of a transform file.
        reference: image whose grid the result takes.
        interpolation: ``linear``, ``nearest`` (labels) or ``bspline`` (cubic).

    Returns:
        MetaTensor ``(C, *reference)`` float32, zero outside the moving image.

    Raises:
        InputError: anything that cannot be read, or dimensions that differ.
    """
    return carry(moving, transform, reference, interpolation).metatensor()


def carry(moving: ImageLike, transform: TransformLike, reference: ImageLike, interpolation: str = "linear") -> Image:
    """:func:`apply`, as an :class:`~medmi.image.Image`."""
    choose(interpolation, INTERPOLATIONS, "interpolation")
    image, grid = as_image(moving, "moving"), Grid.of(as_image(reference, "reference"))
    found = as_transform(transform, "transform", grid, Grid.of(image))
    sizes = {"moving": image.ndim - 1, "transform": found.spatial_dims, "reference": grid.spatial_dims}
    if len(set(sizes.values())) > 1:
        raise InputError("apply: dimensions differ: " + ", ".join(f"{role} is {d}D" for role, d in sizes.items()))
    return moved_image(image, found, grid, interpolation)


@contextmanager
def reporting(progress: bool | Callable[[float], None]) -> Iterator[Callable[[float], None] | None]:
    """``progress`` as a function or None; its bar is closed at the end."""
    if callable(progress) or not progress:
        yield progress or None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("registering", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _part_of(report: Callable[[float], None], number: int, count: int) -> Callable[[float], None]:
    return lambda share: report((number + share) / count)
