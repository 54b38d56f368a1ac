"""What callers may pass: paths, SimpleITK objects, MetaTensors and names, brought to medmi's own objects or refused in one line."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from medmi import io, networks
from medmi.grid import Grid
from medmi.image import AnyImage, Image
from medmi.io.images import load_image
from medmi.loaded import loaded
from medmi.registration.dense import DENSE_TERMS
from medmi.registration.families import FAMILY_BY_LEVEL
from medmi.registration.initialise import STARTS
from medmi.registration.neural import NEURAL_TERMS, NeuralTerm
from medmi.registration.problem import Problem
from medmi.registration.terms import TERMS, Term
from medmi.spatial import LinearTransform, SpatialTransform
from medmi.spatial import from_sitk as transform_from_sitk
from medmi.validation import InputError, choose

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data import MetaTensor

NETWORK_SUFFIX = ".pt"
DEVICES = ("cpu", "cuda")

ImageLike: TypeAlias = "str | pathlib.Path | MetaTensor | Image | sitk.Image"
TransformLike: TypeAlias = "str | pathlib.Path | SpatialTransform | sitk.Transform"


def as_image(image: Any, role: str) -> AnyImage:
    """A path, SimpleITK image or MetaTensor as image ``(C, *spatial)`` with a RAS affine; a MetaTensor is taken as it is."""
    if isinstance(image, (str, pathlib.Path)):
        return load_image(image)
    if isinstance(image, loaded("SimpleITK", "Image")):
        from medmi.io.itk import image_of

        return image_of(image)
    if not isinstance(image, (Image, loaded("monai.data", "MetaTensor"))):
        raise InputError(
            f"{role}: got {type(image).__name__}; pass a path, a MetaTensor (C, *spatial) or a SimpleITK image"
        )
    if image.ndim not in (3, 4):
        raise InputError(
            f"{role}: shape {tuple(image.shape)} is not (C, *spatial) of a 2D or 3D image; add the channel axis"
        )
    return image


def as_transform(transform: Any, role: str, fixed: Grid, moving: Grid) -> SpatialTransform:
    """A path, SimpleITK transform or medmi transform as medmi transform."""
    if isinstance(transform, SpatialTransform):
        return transform
    if isinstance(transform, loaded("SimpleITK", "Transform")):
        return transform_from_sitk(transform)
    if isinstance(transform, (str, pathlib.Path)):
        return io.read_transform(transform, fixed, moving)
    raise InputError(f"{role}: got {type(transform).__name__}; pass a path, a medmi transform or a SimpleITK transform")


def as_device(device: Any) -> torch.device:
    """The device of a name, ``cpu`` for None, if it is one that the solver runs on and that is there."""
    try:
        found = torch.device("cpu" if device is None else device)
        if found.type not in DEVICES:
            raise InputError(f"device: {device} came; choose {' or '.join(DEVICES)}")
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"device: {device} cannot be used here ({reason}); leave it out or pass cpu") from error
    return found


def as_term(similarity: Any, device: torch.device) -> Term | NeuralTerm | nn.Module:
    """The term or loss of a name; a neural term is taken as it is, and a copy of a loss object where it is not on the device."""
    if isinstance(similarity, nn.Module):
        return similarity if device.type == "cpu" else copy.deepcopy(similarity).to(device)
    if isinstance(similarity, NeuralTerm):
        return similarity
    known: dict[str, Term | NeuralTerm | Callable[[], nn.Module]] = {**TERMS, **NEURAL_TERMS, **DENSE_TERMS}
    row = choose(similarity, known, "similarity")
    return row if isinstance(row, (Term, NeuralTerm)) else row().to(device)


def check_options(families: list[str], threads: int, seed: int) -> None:
    """Refuse unknown families, and counts that cannot be."""
    if not families:
        raise InputError("transform: the list is empty; give at least one family")
    for family in families:
        choose(family, FAMILY_BY_LEVEL, "transform")
    if threads < 1:
        raise InputError(f"threads: got {threads}; at least 1 is asked")
    if seed < 0:
        raise InputError(f"seed: got {seed}; 0 or more is asked")


def as_start(initial: Any, problem: Problem) -> str | LinearTransform:
    """Where the solver starts: a name, a linear transform, or what a registration network finds."""
    if isinstance(initial, (str, pathlib.Path)) and pathlib.Path(initial).suffix == NETWORK_SUFFIX:
        initial = networks.RegistrationPredictor.load(initial)
    if isinstance(initial, loaded("medmi.networks.registration_predictor", "RegistrationPredictor")):
        return initial(*(Image(side.image, side.grid.affine) for side in (problem.fixed, problem.moving)))
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


def check_overlap(start: str | LinearTransform, problem: Problem) -> None:
    """A start that is taken at its word must leave something to compare."""
    if start == "identity":
        start = LinearTransform(torch.eye(problem.spatial_dims + 1, dtype=torch.float64))
    if not isinstance(start, LinearTransform):
        return
    coarse = [torch.linspace(0, size - 1, min(size, 12), dtype=torch.float64) for size in problem.fixed.grid.shape]
    points = problem.fixed.grid.index_to_world(torch.cartesian_prod(*coarse))
    if not bool(problem.moving.grid.contains(start.points(points)).any()):
        raise InputError("initial: the images do not overlap there; use initial auto, geometry or moments")
