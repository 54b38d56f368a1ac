"""The two calls most users need: :func:`register` finds a transform, :func:`apply` carries an image through one."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from torch import nn

from medmi.grid import Grid
from medmi.io import from_sitk, read_image, read_transform
from medmi.registration.dense import DENSE_TERMS
from medmi.registration.engine import FAMILY_BY_LEVEL, Request, solve
from medmi.registration.initialise import STARTS
from medmi.registration.presets import PRESETS
from medmi.registration.problem import Problem, pose_problem
from medmi.registration.result import RegistrationResult, moved_image
from medmi.registration.terms import TERMS, Term
from medmi.spatial import LinearTransform, SpatialTransform
from medmi.spatial import from_sitk as transform_from_sitk
from medmi.spatial.resample import INTERPOLATIONS
from medmi.validation import InputError, choose

ImageLike = str | pathlib.Path | MetaTensor | sitk.Image
TransformLike = str | pathlib.Path | SpatialTransform | sitk.Transform


def register(
    fixed: ImageLike,
    moving: ImageLike,
    transform: str | Sequence[str] = "rigid",
    similarity: str | nn.Module = "mi",
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    initial: str | pathlib.Path | SpatialTransform | sitk.Transform = "auto",
    preset: str | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool | Callable[[float], None] = False,
    threads: int = 1,
) -> RegistrationResult:
    """Align a moving image with a fixed one.

    Args:
        fixed: reference image: a path (file or DICOM folder), a MetaTensor ``(C, *spatial)`` or a SimpleITK image.
        moving: image to be aligned, 2D or 3D as the fixed one.
        transform: ``translation``, ``rigid``, ``similarity``, ``affine``, in 2D also ``homography``; or several, run in order.
        similarity: ``mi``, ``nmi``, ``ncc`` or ``ssd`` on sampled points; ``lmi``, ``lncc``, ``mind`` or ``lc2`` on the whole grid
            (slower); or a MONAI-style loss object, lower is better, on images scaled to [0, 1]. Colour is summed over channels; where the channel counts differ, both
            images are taken as luminance.
        fixed_mask: image on the fixed grid; points are drawn where it is not 0.
        moving_mask: image on the moving grid; the moving image counts where it is not 0.
        initial: ``auto`` searches poses over all rotations, the given headers' among them; ``identity`` trusts the headers,
            ``geometry`` aligns the centres of the grids, ``moments`` those of mass; or a transform, or the path of one.
        preset: a name of :data:`medmi.registration.presets.PRESETS`; ``default`` where none is given.
        device: only ``cpu`` (the default).
        seed: of the random draws; the same call with the same seed gives the same bits, whatever ``threads`` is.
        progress: True shows a bar on a terminal; a function is called with the share of the work done.
        threads: that share the poses of the search.

    Returns:
        A :class:`RegistrationResult`. Not converging is no exception: read ``status``.

    Raises:
        InputError: an image, mask, transform or option that cannot be used; the message says which and what to do.
    """
    images = [as_image(image, role) for image, role in ((fixed, "fixed"), (moving, "moving"))]
    masks = [None if m is None else as_image(m, role) for m, role in ((fixed_mask, "fixed_mask"), (moving_mask, "moving_mask"))]
    families = [transform] if isinstance(transform, str) else list(transform)
    _check_options(families, device, threads)
    term = as_term(similarity)
    plan = choose(preset or "default", PRESETS, "preset")
    plan = plan if isinstance(term, Term) else plan.on_whole_grids()
    start_time = time.perf_counter()
    problem = pose_problem(images[0], images[1], masks[0], masks[1])
    if problem.spatial_dims == 3 and "homography" in families:
        raise InputError("transform: homography is 2D only, and the images are 3D; choose affine")
    start = _start(initial, problem)
    _check_overlap(start, problem)
    history: list[dict[str, float]] = []
    with _reporter(progress) as report:
        for number, family in enumerate(families):
            tell = None if report is None else _part_of(report, number, len(families))
            request = Request(family, term, start, plan, seed, threads, tell)
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
    )


def apply(moving: ImageLike, transform: TransformLike, reference: ImageLike, interpolation: str = "linear") -> MetaTensor:
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
    choose(interpolation, INTERPOLATIONS, "interpolation")
    image, grid = as_image(moving, "moving"), Grid.of(as_image(reference, "reference"))
    found = as_transform(transform, "transform", grid, Grid.of(image))
    sizes = {"moving": image.ndim - 1, "transform": found.spatial_dims, "reference": grid.spatial_dims}
    if len(set(sizes.values())) > 1:
        raise InputError("apply: dimensions differ: " + ", ".join(f"{role} is {d}D" for role, d in sizes.items()))
    return moved_image(image, found, grid, interpolation)


def as_image(image: Any, role: str) -> MetaTensor:
    """A path, SimpleITK image or MetaTensor as MetaTensor ``(C, *spatial)`` with a RAS affine."""
    if isinstance(image, sitk.Image):
        return from_sitk(image)
    if isinstance(image, (str, pathlib.Path)):
        return read_image(image)
    if not isinstance(image, MetaTensor):
        raise InputError(f"{role}: got {type(image).__name__}; pass a path, a MetaTensor (C, *spatial) or a SimpleITK image")
    if image.ndim not in (3, 4):
        raise InputError(f"{role}: shape {tuple(image.shape)} is not (C, *spatial) of a 2D or 3D image; add the channel axis")
    return image


def as_transform(transform: Any, role: str, fixed: Grid, moving: Grid) -> SpatialTransform:
    """A path, SimpleITK transform or medmi transform as medmi transform."""
    if isinstance(transform, SpatialTransform):
        return transform
    if isinstance(transform, sitk.Transform):
        return transform_from_sitk(transform)
    if isinstance(transform, (str, pathlib.Path)):
        return read_transform(transform, fixed, moving)
    raise InputError(f"{role}: got {type(transform).__name__}; pass a path, a medmi transform or a SimpleITK transform")


def as_term(similarity: Any) -> Term | nn.Module:
    """The term or loss of a name; a loss object is taken as it is."""
    if isinstance(similarity, nn.Module):
        return similarity
    known: dict[str, Callable[[], Term | nn.Module]] = {name: lambda row=row: row for name, row in TERMS.items()} | DENSE_TERMS
    return choose(similarity, known, "similarity")()


def _check_options(families: list[str], device: object, threads: int) -> None:
    if not families:
        raise InputError("transform: the list is empty; give at least one family")
    for family in families:
        choose(family, FAMILY_BY_LEVEL, "transform")
    if device is not None and torch.device(device).type != "cpu":  # type: ignore[arg-type]
        raise InputError(f"device: {device} is not supported by the solver; leave it out or pass cpu")
    if threads < 1:
        raise InputError(f"threads: got {threads}; at least 1 is asked")


def _start(initial: Any, problem: Problem) -> str | LinearTransform:
    if isinstance(initial, str) and initial in ("auto", *STARTS):
        return initial
    if isinstance(initial, str) and not pathlib.Path(initial).suffix:
        choose(initial, dict.fromkeys(("auto", *STARTS, "a transform file")), "initial")
    start = as_transform(initial, "initial", problem.fixed.grid, problem.moving.grid)
    if not isinstance(start, LinearTransform):
        raise InputError("initial: only a linear transform can start the solver; this one is a field or a chain")
    if start.spatial_dims != problem.spatial_dims:
        raise InputError(f"initial: the transform is {start.spatial_dims}D and the images are {problem.spatial_dims}D")
    return start


def _check_overlap(start: str | LinearTransform, problem: Problem) -> None:
    """A start that is taken at its word must leave something to compare."""
    if start == "identity":
        start = LinearTransform(torch.eye(problem.spatial_dims + 1, dtype=torch.float64))
    if not isinstance(start, LinearTransform):
        return
    coarse = [torch.linspace(0, size - 1, min(size, 12), dtype=torch.float64) for size in problem.fixed.grid.shape]
    points = problem.fixed.grid.index_to_world(torch.cartesian_prod(*coarse))
    if not bool(problem.moving.grid.contains(start.points(points)).any()):
        raise InputError("initial: the images do not overlap there; use initial auto, geometry or moments")


class _reporter:  # noqa: N801
    """Turn ``progress`` into a function or None, and close the bar at the end."""

    def __init__(self, progress: bool | Callable[[float], None]) -> None:
        self.progress = progress
        self.bar: Any = None

    def __enter__(self) -> Callable[[float], None] | None:
        if callable(self.progress):
            return self.progress
        if not self.progress:
            return None
        from rich.progress import Progress

        self.bar = Progress(transient=True)
        self.bar.start()
        task = self.bar.add_task("registering", total=1.0)
        return lambda share: self.bar.update(task, completed=share)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def _part_of(report: Callable[[float], None], number: int, count: int) -> Callable[[float], None]:
    return lambda share: report((number + share) / count)
