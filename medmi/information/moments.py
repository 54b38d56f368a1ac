"""Moments of an image pair over the cells of its histogram, with their exact backward pass.

Words: *bins*, *cells*, *fractions* and *taps* as in ``windows.py``; the *place* of a value is its continuous bin
index; *moments* are the sums, over the voxels whose values lie in a cell of x and a cell of y, of the products of the
window's basis functions. A voxel's gradient is read from the gradient of the moments at its own cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from medmi.information import kernels_cpu
from medmi.information.blocks import Kept, pieces, working
from medmi.information.windows import WINDOWS, Window

Factors = Sequence[torch.Tensor | float]


@dataclass(frozen=True)
class Axis:
    """Where the values of one image lie among the bins: place = (value - low) * scale.

    Attributes:
        low: value at the first bin's centre, for each row, ``(R, 1)`` float64.
        scale: bins per unit of value, ``(R, 1)`` float64; zero where all values go to the first bin.
        clipped: whether values may lie beyond the bins, to be counted at the ends.
    """

    low: torch.Tensor
    scale: torch.Tensor
    clipped: bool

    def places(self, image: torch.Tensor, precision: torch.dtype) -> Iterator[torch.Tensor]:
        """Places ``(rows, voxels)`` of each block's values, before clipping."""
        low, scale = self.low.to(precision), self.scale.to(precision)
        voxels = image.shape[1]
        for values, first, step in zip(pieces(image, voxels), pieces(low, voxels), pieces(scale, voxels)):
            yield (values.to(precision) - first).mul_(step)


class Found(NamedTuple):
    """The kept voxels of a block, flat ``(n,)``.

    Attributes:
        cell: joint cell, rows told apart.
        fractions: of x and y in their cells.
        within: for x and y, zero beyond the given range and one inside, or None where no range was given.
        weight: how much each counts, or None for one.
        chosen: their positions in the flat block, or None for all of it.
    """

    cell: torch.Tensor
    fractions: tuple[torch.Tensor, torch.Tensor]
    within: tuple[torch.Tensor | None, torch.Tensor | None]
    weight: torch.Tensor | None
    chosen: torch.Tensor | None


@dataclass(frozen=True)
class Layout:
    """All that finding voxels' cells needs beside the images."""

    window: Window
    bins: int
    kept: Kept
    x: Axis
    y: Axis

    @property
    def cells(self) -> int:
        """Cells along one axis."""
        return self.bins - 1

    def found(self, x: torch.Tensor, y: torch.Tensor) -> Iterator[Found]:
        """The kept voxels of every block of the images ``(R, N)``."""
        precision = working_pair(x, y)
        starts = torch.arange(x.shape[0], device=x.device)[:, None] * self.cells**2
        sources = (self.x.places(x, precision), self.y.places(y, precision), pieces(starts, x.shape[1]))
        for place_x, place_y, start, inside, weight in zip(*sources, self.kept.inside(), self.kept.weight()):
            chosen = None if inside is None else inside.flatten().nonzero().squeeze(1)
            cell_x, fraction_x, within_x = self._split(_pick(place_x, chosen), self.x.clipped)
            cell_y, fraction_y, within_y = self._split(_pick(place_y, chosen), self.y.clipped)
            cell = torch.add(cell_y, cell_x, alpha=self.cells).long()
            if x.shape[0] > 1:
                cell += _pick(start.expand_as(place_x), chosen)
            weight = None if weight is None else _pick(weight.to(precision), chosen)
            yield Found(cell, (fraction_x, fraction_y), (within_x, within_y), weight, chosen)

    def _split(self, place: torch.Tensor, clipped: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Cell (int32), fraction, and whether the place is inside the range; overwrites the place."""
        within = None
        if clipped:
            clamped = place.clamp(0, self.cells)
            within = (place == clamped).to(place)
            place = clamped
        cell = place.int().clamp_max_(self.cells - 1)  # floor() would wake every thread for each block
        return cell, place.sub_(cell), within


def moments(x: torch.Tensor, y: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Images ``(R, N)`` to moments ``(basis of x, basis of y, R, cells of x, cells of y)``, float64."""
    plain = layout.kept.everything and layout.window is WINDOWS["linear"] and x.device.type == "cpu"
    same = x.dtype == y.dtype == working_pair(x, y)
    return (_CompiledMoments if plain and same else _Moments).apply(x, y, layout)


def working_pair(x: torch.Tensor, y: torch.Tensor) -> torch.dtype:
    """The precision both images are worked in."""
    return torch.promote_types(working(x.dtype), working(y.dtype))


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, layout: Layout) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        ctx.layout = layout
        basis, cells = layout.window.taps.shape[1], layout.cells
        sums = torch.zeros(basis * basis, x.shape[0] * cells * cells, dtype=torch.float64, device=x.device)
        tables = sums.unbind()
        for found in layout.found(x, y):
            along_x, along_y = (layout.window.basis(fraction) for fraction in found.fractions)
            for k, table in enumerate(tables):
                term = _times(along_x[k // basis], along_y[k % basis])
                term = term if found.weight is None else _times(found.weight, term)
                term = term.double() if isinstance(term, torch.Tensor) else table.new_full(found.cell.shape, term)
                table.scatter_add_(0, found.cell, term)
        return sums.reshape(basis, basis, x.shape[0], cells, cells)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, layout = ctx.saved_tensors, ctx.layout
        blank = torch.empty_like if layout.kept.everything else torch.zeros_like
        window, precision = layout.window, working_pair(*images)
        grads: list[torch.Tensor | None] = [None, None]
        for axis, needed in enumerate(ctx.needs_input_grad[:2]):
            if not needed:
                continue
            grad = grads[axis] = blank(images[axis])
            scale = (layout.x, layout.y)[axis].scale[..., None]
            tables = (gradient * scale).to(precision).flatten(2)
            for block, found in zip(pieces(grad, grad.shape[1]), layout.found(*images)):
                factors = [window.basis(fraction) for fraction in found.fractions]
                factors[axis] = window.slope(found.fractions[axis])
                _write(block, found, _read(tables, found.cell, factors[0], factors[1]), found.within[axis])
        return (*grads, None)


class _CompiledMoments(torch.autograd.Function):
    """The same for the linear window where every voxel counts the same, on the CPU."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, layout: Layout) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        ctx.layout = layout
        axes = torch.cat([layout.x.low, layout.x.scale, layout.y.low, layout.y.scale], 1)
        return kernels_cpu.moments(x, y, axes, layout.cells)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x, y), layout = ctx.saved_tensors, ctx.layout
        grads: list[torch.Tensor | None] = [None, None]
        pairs = ((x, y, layout.x, layout.y), (y, x, layout.y, layout.x))
        slopes = (gradient[1], gradient[:, 1].transpose(-1, -2))
        for axis, (own, other, side, far) in enumerate(pairs):
            if ctx.needs_input_grad[axis]:
                axes = torch.cat([side.low, side.scale, far.low, far.scale], 1)
                tables = slopes[axis].movedim(0, -1) * side.scale[..., None, None]
                grads[axis] = kernels_cpu.gradient(own, other, axes, side.clipped, tables)
        return (*grads, None)


def _pick(block: torch.Tensor, chosen: torch.Tensor | None) -> torch.Tensor:
    """The chosen entries of a block ``(rows, voxels)``, or all of them, flat."""
    flat = block.reshape(-1)
    return flat if chosen is None else flat[chosen]


def _times(first: torch.Tensor | float, second: torch.Tensor | float) -> torch.Tensor | float:
    """Product that leaves out factors of one."""
    if isinstance(first, float) and first == 1.0:
        return second
    return first if isinstance(second, float) and second == 1.0 else first * second


def _read(tables: torch.Tensor, cell: torch.Tensor, along_x: Factors, along_y: Factors) -> torch.Tensor:
    """``sum_ab along_x[a] along_y[b] tables[a, b][cell]`` over the factors that are not the number zero."""
    terms: list[torch.Tensor] = []
    for a, first in enumerate(along_x):
        for b, second in enumerate(along_y):
            factor = _times(first, second)
            if isinstance(factor, torch.Tensor) or factor != 0.0:
                terms.append(tables[a, b].index_select(0, cell).mul_(factor))
    for term in terms[1:]:
        terms[0] += term
    return terms[0]


def _write(block: torch.Tensor, found: Found, values: torch.Tensor, within: torch.Tensor | None) -> None:
    """Put the gradient of a block's kept voxels where they belong; the others stay as they are."""
    for factor in (found.weight, within):
        values = values if factor is None else values * factor
    if found.chosen is None:
        block.copy_(values.view_as(block))
    else:
        block.view(-1).index_copy_(0, found.chosen, values.to(block.dtype))
