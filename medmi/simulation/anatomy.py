"""A head as a list of surfaces painted over one another, outermost first: where each tissue is, for any world point.

The world is RAS mm with its origin near the anterior commissure. Everything is analytic, so the anatomy has no voxels
of its own. Left and right differ in size, in the folds of the cortex and by a smooth warp of the whole head: the head
is its own mirror image nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from medmi.simulation.shapes import Box, Ellipsoid, Points, Triple, Waves, smooth_union, union

TISSUES = (
    "air",
    "skin",
    "fat",
    "muscle",
    "skull",
    "marrow",
    "csf",
    "grey",
    "white",
    "deep",
    "ventricle",
    "eye",
    "lesion",
)
"""Names of the labels in their order, ``TISSUES[label]``; ``deep`` is the grey matter of basal ganglia and thalamus."""

LEFT_SCALE = 0.92
"""Size of a left structure against its right twin."""


@dataclass(frozen=True)
class Part:
    """One ellipsoid of a tissue."""

    tissue: str
    shape: Ellipsoid


def part(tissue: str, centre: Triple, radii: Triple, turn: Triple = (0.0, 0.0, 0.0)) -> tuple[Part, ...]:
    """A single part."""
    return (Part(tissue, Ellipsoid(centre, radii, turn)),)


def twins(tissue: str, centre: Triple, radii: Triple, turn: Triple = (0.0, 0.0, 0.0)) -> tuple[Part, ...]:
    """The right part as given and a slightly smaller mirror image of it on the left."""
    left = Ellipsoid(
        (-centre[0], centre[1] - 1.5, centre[2] + 1.0),
        (radii[0] * LEFT_SCALE, radii[1] * LEFT_SCALE, radii[2] * LEFT_SCALE),
        (turn[0], -turn[1], -turn[2]),
    )
    return (Part(tissue, Ellipsoid(centre, radii, turn)), Part(tissue, left))


# Under the brain: bones, cavities and organs of the face and neck.
FACE: tuple[Part, ...] = (
    *part("skull", (0.0, 62.0, -46.0), (36.0, 26.0, 28.0)),
    *part("marrow", (0.0, 62.0, -46.0), (31.0, 21.0, 23.0)),
    *twins("skull", (45.0, 50.0, -50.0), (16.0, 17.0, 9.0), (0.0, 0.0, -30.0)),
    *twins("marrow", (45.0, 50.0, -50.0), (12.0, 13.0, 5.5), (0.0, 0.0, -30.0)),
    *part("skull", (0.0, 66.0, -104.0), (26.0, 17.0, 14.0)),
    *part("marrow", (0.0, 66.0, -104.0), (21.0, 12.0, 9.5)),
    *twins("skull", (40.0, 34.0, -88.0), (7.0, 34.0, 15.0), (-40.0, 0.0, 12.0)),
    *twins("marrow", (40.0, 34.0, -88.0), (4.0, 28.0, 10.0), (-40.0, 0.0, 12.0)),
    *part("fat", (0.0, 44.0, -96.0), (20.0, 14.0, 9.0)),
    *part("muscle", (0.0, 42.0, -82.0), (23.0, 28.0, 17.0)),
    *part("air", (0.0, 12.0, -84.0), (8.0, 6.0, 30.0), (-8.0, 0.0, 0.0)),
    *part("air", (1.5, 68.0, -50.0), (9.0, 26.0, 17.0)),
    *part("skull", (-1.0, 70.0, -50.0), (1.4, 22.0, 16.0), (0.0, 0.0, 4.0)),
    *twins("air", (25.0, 58.0, -54.0), (10.0, 13.0, 14.0)),
    *part("air", (3.0, 26.0, -32.0), (11.0, 9.0, 8.0)),
    *twins("air", (58.0, -34.0, -40.0), (7.0, 9.0, 9.0)),
    *part("skull", (0.0, -22.0, -88.0), (15.0, 12.0, 40.0)),
    *part("marrow", (0.0, -20.0, -78.0), (12.0, 9.0, 11.0)),
    *part("marrow", (0.0, -20.0, -104.0), (12.0, 9.0, 9.0)),
    *part("skull", (0.0, -44.0, -98.0), (17.0, 17.0, 46.0)),
    *part("csf", (0.0, -43.0, -96.0), (9.5, 9.0, 60.0)),
    *twins("fat", (33.0, 58.0, -27.0), (19.0, 24.0, 17.0)),
    *twins("muscle", (35.0, 48.0, -27.0), (11.0, 20.0, 9.0)),
    *twins("eye", (33.0, 70.0, -27.0), (12.0, 12.0, 12.0)),
    *twins("muscle", (33.0, 80.0, -27.0), (5.0, 2.4, 5.0)),
)

FRONTAL_SINUS = twins("air", (11.0, 76.0, -12.0), (13.0, 4.5, 8.0), (20.0, 0.0, -12.0))

# Inside the brain, over the cortex and white matter.
INNER: tuple[Part, ...] = (
    *part("white", (0.0, -22.0, -12.0), (16.0, 12.0, 13.0)),
    *part("white", (0.0, -25.0, -29.0), (17.0, 14.0, 14.0)),
    *part("white", (0.0, -37.0, -58.0), (10.0, 8.0, 26.0), (-14.0, 0.0, 0.0)),
    *part("white", (0.0, -43.0, -112.0), (6.0, 5.5, 50.0)),
    *part("white", (0.0, -6.0, 17.0), (26.0, 40.0, 14.0)),
    *twins("grey", (29.0, 8.0, -20.0), (8.0, 8.0, 7.0)),
    *twins("grey", (29.0, -20.0, -18.0), (5.5, 18.0, 5.0), (-12.0, 0.0, 14.0)),
    *twins("deep", (12.0, -18.0, 7.0), (9.5, 15.0, 9.5), (0.0, 0.0, 20.0)),
    *twins("deep", (27.0, 3.0, 2.0), (6.0, 17.0, 11.0), (0.0, -8.0, 10.0)),
    *twins("deep", (14.0, 16.0, 9.0), (6.5, 12.0, 9.5), (15.0, 0.0, 8.0)),
    *twins("white", (19.5, -3.0, 1.0), (3.0, 10.0, 8.0), (0.0, 0.0, 18.0)),
    *part("csf", (0.0, -16.0, -22.0), (7.0, 5.0, 4.0)),
    *twins("ventricle", (9.0, 24.0, 15.0), (4.5, 17.0, 9.5), (25.0, 0.0, 16.0)),
    *twins("ventricle", (11.0, -10.0, 24.0), (6.5, 26.0, 6.0), (-6.0, 0.0, -12.0)),
    *twins("ventricle", (22.0, -42.0, 12.0), (7.0, 13.0, 12.0), (-35.0, 0.0, -24.0)),
    *twins("ventricle", (24.0, -62.0, 6.0), (4.5, 17.0, 6.0), (5.0, 0.0, 10.0)),
    *twins("ventricle", (33.0, -24.0, -11.0), (3.5, 18.0, 4.0), (-16.0, 0.0, 14.0)),
    *part("ventricle", (0.5, -11.0, 2.0), (2.4, 13.0, 11.0), (20.0, 0.0, 2.0)),
    *part("ventricle", (-0.5, -45.0, -34.0), (8.0, 5.0, 11.0), (-20.0, 0.0, 0.0)),
)

CRANIUM = (
    Ellipsoid((0.0, -18.0, 18.0), (69.0, 87.0, 57.0)),
    Ellipsoid((0.0, -56.0, -36.0), (53.0, 41.0, 34.0)),
    Ellipsoid((36.0, 2.0, -19.0), (26.0, 38.0, 25.0)),
    Ellipsoid((-36.0, 0.0, -18.0), (25.0, 37.0, 25.0)),
)
SOFT_FACE = (
    Ellipsoid((0.0, 40.0, -52.0), (62.0, 50.0, 58.0)),
    Ellipsoid((0.0, 58.0, -92.0), (42.0, 30.0, 30.0)),
    Ellipsoid((0.0, -18.0, -110.0), (56.0, 58.0, 90.0), (-8.0, 0.0, 0.0)),
    Ellipsoid((1.0, 94.0, -44.0), (13.0, 15.0, 21.0), (-22.0, 0.0, 0.0)),
    Ellipsoid((78.0, -22.0, -28.0), (9.0, 17.0, 26.0), (0.0, 8.0, 25.0)),
    Ellipsoid((-77.0, -23.0, -27.0), (9.0, 16.0, 25.0), (0.0, -8.0, -25.0)),
)
FOSSA = Ellipsoid((0.0, -60.0, -45.0), (70.0, 46.0, 33.0), (8.0, 0.0, 0.0))
CEREBELLUM = (
    Ellipsoid((24.0, -65.0, -41.0), (29.0, 29.0, 24.0), (0.0, -12.0, 0.0)),
    Ellipsoid((-23.0, -65.5, -41.0), (28.0, 28.5, 23.0), (0.0, 12.0, 0.0)),
    Ellipsoid((0.0, -60.0, -38.0), (9.0, 25.0, 23.0)),
)
HEAD = Ellipsoid((0.0, 0.0, -20.0), (150.0, 150.0, 150.0))
NECK_END = -125.0
SCALP_MM = 15.0
FACE_BLEND_MM = 14.0
SUBARACHNOID_MM = 2.2
CORTEX_MM = 3.0
Layer = tuple[str, torch.Tensor]


def inner_table_distance(points: Points, box: Box, edge: float) -> torch.Tensor:
    """Distance to the inside of the cranium, which skull and scalp follow."""
    return union(CRANIUM, points, 16.0, box, SCALP_MM + FACE_BLEND_MM + edge)


def head_layers(points: Points, inner_table: torch.Tensor, box: Box, edge: float) -> Iterator[Layer]:
    """Skin, fat and muscle of head, face and neck."""
    face = union(SOFT_FACE, points, 10.0, box, FACE_BLEND_MM + edge)
    outline = smooth_union(inner_table - SCALP_MM, face, FACE_BLEND_MM)
    outline = torch.maximum(outline, NECK_END - points[2])
    yield "skin", outline
    yield "fat", outline + 2.0
    yield "muscle", outline + 5.5


def skull_layers(inner_table: torch.Tensor, thickness: torch.Tensor) -> Iterator[Layer]:
    """Two tables of bone with marrow between them."""
    yield "skull", inner_table - thickness
    yield "marrow", (inner_table - 0.5 * thickness).abs() - (0.5 * thickness - 2.0)


def cerebrum_layers(points: Points, inner_table: torch.Tensor, folds: Waves) -> Iterator[Layer]:
    """Cortex and white matter: sulci are sheets of fluid of limited depth, the cortex a ribbon along every sheet."""
    x, y, z = points
    surface = torch.maximum(inner_table + SUBARACHNOID_MM, 1.5 - FOSSA.distance(points))
    depth = -surface
    # Drawn on directions rather than on points, the folds run inwards as real sulci do.
    cx, cy, cz = x / 66.0, (y + 18.0) / 84.0, (z - 8.0) / 54.0
    stretch = (cx.square() + cy.square() + cz.square()).clamp_min(0.05).pow(-0.35)
    sulci = folds.sheet_distance((x * stretch, (y + 18.0) * stretch, (z - 8.0) * stretch))
    fluid = sulci - 0.7 + 0.9 * (depth - 19.0).clamp_min(0)
    wobble = x + 1.5 * torch.sin(0.06 * y + 0.05 * z)
    callosum = 24.0 - 0.0045 * (y + 8.0).square()
    fissure = wobble.abs() - 1.0 + 0.9 * (callosum - z).clamp_min(0)
    lateral = (z - 4.0 + 0.4 * (y + 5.0) - 0.0012 * x * x).abs() - 1.0
    lateral = lateral + 0.9 * (38.0 - x.abs()).clamp_min(0) + 0.5 * ((y + 4.0).abs() - 32.0).clamp_min(0)
    ribbon = torch.minimum(torch.minimum(depth, fluid), torch.minimum(fissure, lateral))
    yield "grey", -ribbon
    yield "white", torch.maximum(CORTEX_MM - ribbon, surface)


def cerebellum_layers(points: Points, box: Box, edge: float) -> Iterator[Layer]:
    """Folia: thin nearly parallel sheets around a white core."""
    if all(shape.beyond(box, edge + 3.0) for shape in CEREBELLUM):
        return
    surface = union(CEREBELLUM, points, 3.0, box, edge)
    x, y, z = points
    radius = ((y + 34.0).square() + (z + 34.0).square() + 0.25 * x.square()).sqrt()
    angle = torch.atan2(z + 34.0, -(y + 34.0))
    sheets = torch.sin(9.0 * angle + 0.05 * x + 0.12 * radius).abs() * radius / 9.0
    ribbon = torch.minimum(-surface, sheets - 0.5 + 0.8 * (-surface - 11.0).clamp_min(0))
    yield "grey", -ribbon
    yield "white", torch.maximum(2.3 - ribbon, surface + 1.5)


def part_layers(parts: tuple[Part, ...], points: Points, box: Box, edge: float) -> Iterator[Layer]:
    """Those parts that the points in the box come near."""
    for one in parts:
        if not one.shape.beyond(box, edge):
            yield one.tissue, one.shape.distance(points)
