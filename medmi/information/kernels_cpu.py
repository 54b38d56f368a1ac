"""Compiled loops over voxel pairs for the linear window, where every voxel counts the same: moments, and their way
back.

The torch walk of ``moments.py`` is the oracle and does the rest (masks, weights, other windows, other devices, half
precision). A row is cut in the same few parts on every machine, each summed in order into a table of its own, so that
bits do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from medmi.spatial.compiled import compiled

PARTS = 4
FEW = 1 << 16
"""Voxels under which a second thread costs more than it saves."""


@compiled
def add_moments(x, y, axes, cells, table):
    """Add 1, g, f and f g of every pair to the row of ``table (cells^2, 4)`` that is its joint cell.

    Args:
        x: values ``(n,)``; y likewise.
        axes: low and scale of x, then of y, ``(4,)`` in the precision of x.
        cells: along one axis.
        table: float64.
    """
    zero, last, top = x.dtype.type(0), x.dtype.type(cells), np.uint32(cells - 1)
    low_x, scale_x, low_y, scale_y = axes[0], axes[1], axes[2], axes[3]
    for n in range(x.shape[0]):
        u = min(max((x[n] - low_x) * scale_x, zero), last)
        v = min(max((y[n] - low_y) * scale_y, zero), last)
        i = min(np.uint32(u), top)
        j = min(np.uint32(v), top)
        f = u - x.dtype.type(i)
        g = v - x.dtype.type(j)
        cell = i * np.uint32(cells) + j
        table[cell, 0] += 1.0
        table[cell, 1] += g
        table[cell, 2] += f
        table[cell, 3] += f * g


@compiled
def read_slopes(x, y, axes, cells, clipped, table, out):
    """Gradient by x of every pair: ``table[cell, 0] + g table[cell, 1]``, zero where clipped x lies beyond the bins.

    Args:
        x: values ``(n,)`` of the image the gradient is of; y: of the other.
        axes: as for :func:`add_moments`.
        cells: along one axis.
        clipped: whether values beyond the bins have no gradient.
        table: ``(cells of x, cells of y, 2)`` in the precision of x.
        out: ``(n,)``.
    """
    zero, last, top = x.dtype.type(0), x.dtype.type(cells), np.uint32(cells - 1)
    low_x, scale_x, low_y, scale_y = axes[0], axes[1], axes[2], axes[3]
    for n in range(x.shape[0]):
        place = (x[n] - low_x) * scale_x
        u = min(max(place, zero), last)
        v = min(max((y[n] - low_y) * scale_y, zero), last)
        i = min(np.uint32(u), top)
        j = min(np.uint32(v), top)
        g = v - x.dtype.type(j)
        slope = table[i, j, 0] + g * table[i, j, 1]
        out[n] = zero if clipped and place != u else slope


def moments(x: torch.Tensor, y: torch.Tensor, axes: torch.Tensor, cells: int) -> torch.Tensor:
    """Images ``(R, N)`` of one float dtype, and ``(R, 4)`` lows and scales, to moments ``(2, 2, R, cells, cells)``,
    float64.
    """
    tables = np.zeros((x.shape[0], PARTS, cells * cells, 4))
    first, second, sides = (part.detach().numpy() for part in (x, y, axes.to(x.dtype)))
    _run(
        lambda row, part, span: add_moments(first[row, span], second[row, span], sides[row], cells, tables[row, part]),
        *x.shape,
    )
    summed = torch.from_numpy(tables.sum(1))  # numpy sums a leading axis in order
    return summed.permute(2, 0, 1).reshape(2, 2, x.shape[0], cells, cells)


def gradient(x: torch.Tensor, y: torch.Tensor, axes: torch.Tensor, clipped: bool, tables: torch.Tensor) -> torch.Tensor:
    """Gradient by x, ``(R, N)``, from ``tables (R, cells of x, cells of y, 2)``: the slope at g = 0 and its change
    with g.
    """
    out = torch.empty_like(x)
    first, second, sides = (part.detach().numpy() for part in (x, y, axes.to(x.dtype)))
    read, written, cells = tables.to(x.dtype).contiguous().numpy(), out.numpy(), tables.shape[1]
    _run(
        lambda row, part, span: read_slopes(
            first[row, span], second[row, span], sides[row], cells, clipped, read[row], written[row, span]
        ),
        *x.shape,
    )
    return out


def _run(task: Callable[[int, int, slice], None], rows: int, voxels: int) -> None:
    """Do the task for every part of every row, on as many threads as torch uses where there is enough to do."""
    threads = min(torch.get_num_threads(), PARTS)
    if threads == 1 or voxels < FEW:
        for row, part, span in _parts(rows, voxels):
            task(row, part, span)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(task, *where) for where in _parts(rows, voxels)]:
            done.result()


def _parts(rows: int, voxels: int) -> Iterator[tuple[int, int, slice]]:
    length = -(-voxels // PARTS)
    for row in range(rows):
        for part in range(PARTS):
            yield row, part, slice(part * length, min((part + 1) * length, voxels))
