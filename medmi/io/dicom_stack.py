"""From loose frames to volumes: grouped, ordered along the slice normal, and checked to be one lattice.

The slice step is the vector from slice to slice, so a gantry tilt becomes a shear of the affine. SliceThickness and
InstanceNumber say nothing about where a slice is and are not asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from medmi.frames import flip_affine
from medmi.grid import Grid
from medmi.io.dicom_frames import Frame, Place
from medmi.io.files import PathLike
from medmi.validation import InputError

SAME_DIRECTION = 1e-3
SAME_PLACE = 1e-3
UNEVEN = 0.02

Located = tuple[Place, Frame]


@dataclass(frozen=True)
class Volume:
    """Frames in the order of their slices, and index -> world (RAS), 4x4, or 3x3 for one flat frame."""

    frames: list[Frame]
    affine: torch.Tensor


def volumes_of(name: PathLike, frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split frames into volumes: by stack, orientation, spacing and size, then by repeated visits to the same places.

    Frames without a place are a film: each is a volume of its own.

    Raises:
        InputError: some places were visited more often than others.
    """
    unique = {(f.instance or str(f.path), f.number): f for f in frames}.values()
    groups: dict[tuple[object, ...], list[Located]] = defaultdict(list)
    places: list[tuple[tuple[object, ...], tuple[float, ...]]] = []
    films: list[list[Frame]] = []
    for frame in unique:
        if frame.place is None:
            films.append([frame])
        else:
            groups[group_key(frame, frame.place, places)].append((frame.place, frame))
    films.sort(key=lambda film: (film[0].order, film[0].number))
    in_order = sorted(groups.values(), key=lambda group: min((f.order, f.number) for _, f in group))
    return [volume for group in in_order for volume in visits(name, group)] + films


def group_key(
    frame: Frame, place: Place, known: list[tuple[tuple[object, ...], tuple[float, ...]]]
) -> tuple[object, ...]:
    """The key of the group a frame belongs to: a known one where directions and spacing differ by rounding only."""
    exact = (frame.stack, frame.shape)
    lattice = (*place.orientation, *frame.spacing)
    for k, (other, values) in enumerate(known):
        if other == exact and max(abs(a - b) for a, b in zip(lattice, values)) < SAME_DIRECTION:
            return (k,)
    known.append((exact, lattice))
    return (len(known) - 1,)


def visits(name: PathLike, group: list[Located]) -> list[list[Frame]]:
    """One list of slices for each visit (time, echo, ...) to the group's places, each ordered by place."""
    normal = group[0][0].normal
    ordered = sorted(group, key=lambda item: along(item[0], normal))
    stops: list[list[Located]] = []
    for item in ordered:
        if not stops or along(item[0], normal) - along(stops[-1][0][0], normal) > SAME_PLACE:
            stops.append([])
        stops[-1].append(item)
    most, least = max(stops, key=len), min(stops, key=len)
    if len(most) > len(least):
        raise InputError(
            f"{name}: {len(most)} frames lie at one place ({most[0][0]}) and {len(least)} at another ({least[0][0]}); "
            "remove the duplicates or supply what is missing"
        )
    for stop in stops:
        stop.sort(key=lambda item: (item[1].order, item[1].number))
    return [[stop[k][1] for stop in stops] for k in range(len(most))]


def along(place: Place, normal: Sequence[float]) -> float:
    """Distance in mm of a position from the origin along a direction."""
    return sum(p * n for p, n in zip(place.position, normal))


def volume_of(name: PathLike, frames: list[Frame]) -> Volume:
    """The frames of one volume, in order, with their affine.

    Raises:
        InputError: directions that are none, slices missing or unevenly spaced.
    """
    first = frames[0]
    places = [f.place for f in frames if f.place is not None]
    if not places:
        row, column = first.spacing
        return Volume(frames, flip_affine(torch.diag(torch.tensor([column, row, 1.0], dtype=torch.float64))))
    directions = torch.tensor(places[0].orientation, dtype=torch.float64).reshape(2, 3)
    lengths = directions.norm(dim=1)
    if not bool(((lengths - 1).abs() < 0.01).all()) or abs(float(directions[0] @ directions[1])) > 0.01:
        raise InputError(f"{name}: its slice directions are not two orthogonal unit vectors; mend its header")
    directions = directions / lengths[:, None]
    normal = torch.linalg.cross(directions[0], directions[1])
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, 0] = directions[0] * first.spacing[1]
    affine[:3, 1] = directions[1] * first.spacing[0]
    affine[:3, 2] = slice_step(name, places, normal) if len(places) > 1 else normal * (abs(first.thickness) or 1.0)
    affine[:3, 3] = torch.tensor(places[0].position, dtype=torch.float64)
    return Volume(frames, Grid((*first.shape, len(frames)), flip_affine(affine)).affine)


def slice_step(name: PathLike, places: list[Place], normal: torch.Tensor) -> torch.Tensor:
    """Vector from slice to slice, ``(3,)``, of two slices or more."""
    points = torch.tensor([p.position for p in places], dtype=torch.float64)
    steps = (points[1:] - points[:-1]) @ normal
    usual = float(steps.median())
    worst = int((steps - usual).abs().argmax())
    if abs(float(steps[worst]) - usual) > max(UNEVEN * usual, 0.01):
        raise InputError(
            f"{name}: slices are unevenly spaced: between slice {worst + 1} ({places[worst]}) and slice {worst + 2} "
            f"({places[worst + 1]}) of {len(places)} the step is {float(steps[worst]):.3f} mm, elsewhere {usual:.3f}; "
            "find the missing slices or remove the odd ones"
        )
    step = (points[-1] - points[0]) / (len(places) - 1)
    regular = points[0] + torch.arange(len(places), dtype=torch.float64)[:, None] * step
    off = (points - regular).norm(dim=1)
    k = int(off.argmax())
    if float(off[k]) > max(5 * UNEVEN * usual, 0.05):
        raise InputError(f"{name}: slice {k + 1} of {len(places)} lies {float(off[k]):.2f} mm off the others' line")
    return step
