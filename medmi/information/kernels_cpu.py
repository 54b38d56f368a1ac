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

from medmi.native import loops

# By the images' precision: loops that add 1, g, f and f g of every pair to the row of a table ``(cells^2, 4)`` that is its joint cell, and
# that read ``table[cell, 0] + g table[cell, 1]`` of every pair, or zero where clipped x lies beyond the bins.
ADD_MOMENTS = {torch.float32: loops.add_moments_float, torch.float64: loops.add_moments_double}
READ_SLOPES = {torch.float32: loops.read_slopes_float, torch.float64: loops.read_slopes_double}
PARTS = 4
FEW = 1 << 16
"""Voxels under which a second thread costs more than it saves."""


def moments(x: torch.Tensor, y: torch.Tensor, axes: torch.Tensor, cells: int) -> torch.Tensor:
    """Images ``(R, N)`` of one float dtype, and ``(R, 4)`` lows and scales, to moments ``(2, 2, R, cells, cells)``,
    float64.
    """
    tables = np.zeros((x.shape[0], PARTS, cells * cells, 4))
    first, second, sides = (part.detach().contiguous().numpy() for part in (x, y, axes.to(x.dtype)))
    add = ADD_MOMENTS[x.dtype]
    _run(
        lambda row, part, span: add(first[row, span], second[row, span], sides[row], cells, tables[row, part]), *x.shape
    )
    summed = torch.from_numpy(tables.sum(1))  # numpy sums a leading axis in order
    return summed.permute(2, 0, 1).reshape(2, 2, x.shape[0], cells, cells)


def gradient(x: torch.Tensor, y: torch.Tensor, axes: torch.Tensor, clipped: bool, tables: torch.Tensor) -> torch.Tensor:
    """Gradient by x, ``(R, N)``, from ``tables (R, cells of x, cells of y, 2)``: the slope at g = 0 and its change
    with g.
    """
    out = torch.empty(x.shape, dtype=x.dtype)
    first, second, sides = (part.detach().contiguous().numpy() for part in (x, y, axes.to(x.dtype)))
    table, written, cells = tables.to(x.dtype).contiguous().numpy(), out.numpy(), tables.shape[1]
    read = READ_SLOPES[x.dtype]
    _run(
        lambda row, part, span: read(
            first[row, span], second[row, span], sides[row], cells, clipped, table[row], written[row, span]
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
