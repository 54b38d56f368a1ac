"""The picture of a registration: checkerboard and colour overlay, before and after, in the patient's planes.

Words: *before* is the moving image resampled on the fixed grid at the start pose, *after* (moved) at the pose found.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from medmi.apps.planes import PLANES, Plane, View, sample, view_of, window
from medmi.grid import Grid
from medmi.image import AnyImage
from medmi.io.files import replacing
from medmi.threads import one_thread
from medmi.validation import InputError

BACKGROUND, INK, FAINT = "#0b0e13", "#e8edf2", "#7d8894"
FIXED_COLOUR, MOVING_COLOUR = (0.10, 0.72, 0.85), (1.00, 0.45, 0.18)
TINT = 0.28
TILES = 8
DOTS_PER_INCH = 110
PNG_LEVEL = 4  # a tenth of a second less than the usual 6, and files 7% larger
LETTER_PLACES = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.03))
TALLEST = 1.7  # panel heights are at most this many widths
# Inches: width of the widest panel, gaps between panels and between the two groups, margins.
PANEL, GAP, GROUP_GAP, LEFT, RIGHT, TOP, BOTTOM = 2.55, 0.07, 0.30, 0.42, 0.16, 0.86, 0.42


@dataclass(frozen=True)
class Panel:
    """One plane of fixed, before and after, ``(rows, columns)`` in [0, 1], and the checkerboard's tiles."""

    plane: Plane
    fixed: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    tiles: torch.Tensor


@one_thread()
def save_comparison(fixed: AnyImage, moving_before: AnyImage, moved: AnyImage, path: str | os.PathLike[str]) -> None:
    """Write one PNG that shows how well two images lie on each other, before and after registration.

    In the checkerboard neighbouring tiles come from the two images, edges should run on across them; in the overlay
    the fixed image is blue and the other orange, white where both are bright. Three patient planes for 3D, the one
    there is for 2D; the patient's right is on the left.

    Args:
        fixed: ``(C, *spatial)``; more than one channel is shown as their mean.
        moving_before: the moving image on the fixed grid at the start pose, ``(C', *spatial)``.
        moved: the moving image on the fixed grid at the pose found, as ``moving_before``.
        path: the PNG; written beside it first, then renamed.

    Raises:
        InputError: the images are not on one grid, or the file cannot be written.
    """
    grid = Grid.of(fixed)
    for name, image in (("moving_before", moving_before), ("moved", moved)):
        if not Grid.of(image).same_as(grid):
            shape = tuple(image.shape)
            raise InputError(f"save_comparison: {name} of shape {shape} is not on the fixed image's grid; resample it")
    grey = [grey_image(image) for image in (fixed, moving_before, moved)]
    view = view_of(grey[0], grid)
    windows = window(grey[0]), window(grey[2]), window(grey[2])
    panels = [panel(plane, view, grid, grey, windows) for plane in PLANES[grid.spatial_dims]]
    figure = draw(panels, view)
    with replacing(path, ".png") as temporary:
        figure.savefig(
            temporary,
            format="png",
            facecolor=BACKGROUND,
            dpi=DOTS_PER_INCH,
            metadata={"Software": "medmi"},
            pil_kwargs={"compress_level": PNG_LEVEL},
        )


def grey_image(image: AnyImage) -> torch.Tensor:
    """``(C, *spatial)`` as one channel ``(*spatial)``, float32 on the CPU, 0 where not finite."""
    return image.as_tensor().detach().cpu().float().mean(0).nan_to_num(0.0, 0.0, 0.0)


def panel(
    plane: Plane, view: View, grid: Grid, images: list[torch.Tensor], windows: tuple[tuple[float, float], ...]
) -> Panel:
    """A plane of the three images in their windows."""
    points = view.points(plane)
    unit = grid.index_to_unit(grid.world_to_index(points))
    inside = (unit.abs() <= 1).all(-1)
    shown = []
    for image, (low, high) in zip(images, windows, strict=True):
        shown.append(((sample(image, unit) - low) / (high - low)).clamp(0, 1) * inside)
    tile = max(h - a for h, a in zip(view.high, view.low, strict=True)) / TILES
    steps = [((points[..., axis] - view.low[axis]) / tile).floor().long() for axis in (plane.across, plane.up)]
    return Panel(plane, shown[0], shown[1], shown[2], (steps[0] + steps[1]) % 2 == 0)


def checkerboard(fixed: torch.Tensor, moving: torch.Tensor, tiles: torch.Tensor) -> torch.Tensor:
    """Fixed in the tiles, the other between them, ``(rows, columns, 3)``, each with a breath of its colour."""
    first, second = (
        grey[..., None] * (1 - TINT + TINT * torch.tensor(colour))
        for grey, colour in ((fixed, FIXED_COLOUR), (moving, MOVING_COLOUR))
    )
    return torch.where(tiles[..., None], first, second).clamp(0, 1)


def overlay(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """Both in their colours, added up, ``(rows, columns, 3)``."""
    return (fixed[..., None] * torch.tensor(FIXED_COLOUR) + moving[..., None] * torch.tensor(MOVING_COLOUR)).clamp(0, 1)


def draw(panels: list[Panel], view: View) -> Figure:
    """All panels on one figure: a row a plane, columns checkerboard before and after, overlay before and after."""
    widest = max(max(p.fixed.shape[1], p.fixed.shape[0] / TALLEST) for p in panels)
    heights = [PANEL * p.fixed.shape[0] / widest for p in panels]
    width = LEFT + 4 * PANEL + 2 * GAP + GROUP_GAP + RIGHT
    height = TOP + sum(heights) + GAP * (len(panels) - 1) + BOTTOM
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    lefts = [LEFT + column * (PANEL + GAP) + (GROUP_GAP - GAP) * (column > 1) for column in range(4)]
    top = height - TOP
    for one, tall in zip(panels, heights, strict=True):
        pictures = [
            checkerboard(one.fixed, one.before, one.tiles),
            checkerboard(one.fixed, one.after, one.tiles),
            overlay(one.fixed, one.before),
            overlay(one.fixed, one.after),
        ]
        wide = PANEL * one.fixed.shape[1] / widest
        for left, picture in zip(lefts, pictures, strict=True):
            place(figure, (left + (PANEL - wide) / 2, top - tall, wide, tall), picture, one.plane)
        text(figure, LEFT / 2 - 0.03, top - tall / 2, one.plane.name, size=10, rotation=90, color=FAINT)
        top -= tall + GAP
    headings(figure, lefts, height)
    legend(figure, lefts, view)
    return figure


def place(figure: Figure, box: tuple[float, float, float, float], picture: torch.Tensor, plane: Plane) -> None:
    """One picture at ``box`` (left, bottom, width, height in inches) with its sides lettered."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.imshow(picture.numpy(), interpolation="lanczos", aspect="auto")
    axes.set_axis_off()
    for letter, (x, y) in zip(plane.ends, LETTER_PLACES, strict=True):
        letters = axes.text(x, y, letter, transform=axes.transAxes, ha="center", va="center", fontsize=7.5, color=INK)
        letters.set_path_effects([withStroke(linewidth=2.2, foreground=BACKGROUND)])


def text(figure: Figure, x: float, y: float, words: str, size: float, rotation: float = 0, color: object = INK) -> None:
    """Centred words at a place in inches."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, words, ha="center", va="center", fontsize=size, rotation=rotation, color=color)


def headings(figure: Figure, lefts: list[float], height: float) -> None:
    """The two groups and, under them, before and after."""
    for group, words in enumerate(("Checkerboard", "Overlay")):
        text(figure, (lefts[2 * group] + lefts[2 * group + 1] + PANEL) / 2, height - 0.30, words, size=13)
    for column, left in enumerate(lefts):
        text(figure, left + PANEL / 2, height - 0.64, ("before", "after")[column % 2], size=10, color=FAINT)


def legend(figure: Figure, lefts: list[float], view: View) -> None:
    """Which colour is which image, under the overlay; how large a tile is, under the checkerboard."""
    tile = max(h - a for h, a in zip(view.high, view.low, strict=True)) / TILES
    text(figure, (lefts[0] + lefts[1] + PANEL) / 2, BOTTOM / 2, f"tiles of {tile:.0f} mm", size=9, color=FAINT)
    middle = (lefts[2] + lefts[3] + PANEL) / 2
    for offset, words, colour in ((-0.75, "fixed", FIXED_COLOUR), (0.75, "moving", MOVING_COLOUR)):
        text(figure, middle + offset, BOTTOM / 2, f"\u25a0  {words}", size=9.5, color=colour)
