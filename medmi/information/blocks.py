"""Walking a batch of images in blocks of fixed size, so that no pass needs more memory than one block.

Words: a *row* is one channel of one sample, its voxels flattened; *kept* voxels are those inside the mask with a
weight above zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import torch

CPU_BLOCK = (
    32_000  # under torch's grain of 32,768: one thread, so sums keep their order and no idle thread is waited for
)
DEVICE_BLOCK = 1 << 22


def spans(rows: int, voxels: int, device: torch.device) -> tuple[list[slice], int]:
    """Slices of rows to take together and the length of the pieces they are cut in: short rows share a block, long
    ones have many.
    """
    size = CPU_BLOCK if device.type == "cpu" else DEVICE_BLOCK
    together = max(1, size // voxels)
    return [slice(row, min(row + together, rows)) for row in range(0, rows, together)], size


def pieces(part: torch.Tensor, voxels: int) -> Iterator[torch.Tensor]:
    """Views ``(rows, voxels)`` of the blocks of ``part`` ``(R, N)``, in order; of ``(R, 1)``, the rows that belong to
    each block.
    """
    rows, size = spans(part.shape[0], voxels, part.device)
    for taken in rows:
        if part.shape[1] == voxels:
            yield from part[taken].split(size, dim=1)
        else:
            yield from repeat(part[taken], -(-voxels // size))


class Kept:
    """Which voxels of ``(B, C, *spatial)`` count, and how much, read block by block.

    Args:
        channels: C.
        mask: ``(B, 1 or C, *spatial)``, inside where not zero, or None.
        weights: ``(B, 1 or C, *spatial)``, zero or more, or None.
    """

    def __init__(self, channels: int, mask: torch.Tensor | None, weights: torch.Tensor | None) -> None:
        self.channels = channels
        self.mask = None if mask is None else mask.as_subclass(torch.Tensor).flatten(2)
        self.weights = None if weights is None else weights.as_subclass(torch.Tensor).detach().flatten(2)

    @property
    def everything(self) -> bool:
        """Whether every voxel counts the same."""
        return self.mask is None and self.weights is None

    def inside(self) -> Iterator[torch.Tensor | None]:
        """For each block the booleans ``(rows, voxels)`` of its kept voxels; None without end where every voxel
        counts the same.
        """
        if self.everything:
            yield from repeat(None)
        for mask, weight in zip(self._blocks(self.mask), self._blocks(self.weights)):
            parts = [part != 0 for part in (mask, weight) if part is not None]
            yield parts[0] if len(parts) == 1 else parts[0] & parts[1]

    def weight(self) -> Iterator[torch.Tensor | None]:
        """For each block its weights ``(rows, voxels)``; None without end where all kept voxels count one."""
        return self._blocks(self.weights)

    def _blocks(self, part: torch.Tensor | None) -> Iterator[torch.Tensor | None]:
        if part is None:
            yield from repeat(None)
            return
        batch, own, voxels = part.shape
        groups, size = spans(batch * self.channels, voxels, part.device)
        for group in groups:
            rows = torch.arange(group.start, group.stop, device=part.device)
            for piece in part.split(size, dim=2):
                yield piece[rows // self.channels, rows % self.channels if own > 1 else 0]


def extremes(image: torch.Tensor, kept: Kept) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest kept value of each row of ``image`` ``(R, N)``, float64 ``(R,)``, detached; NaN where a kept
    value is NaN.

    Rows without kept voxels give (inf, -inf).
    """
    values = image.detach()
    low = torch.full((image.shape[0], 1), torch.inf, dtype=working(values.dtype), device=image.device)
    high = -low
    walk = zip(*(pieces(part, image.shape[1]) for part in (values, low, high)), kept.inside())
    for block, lowest, highest, inside in walk:
        least = greatest = block.to(low.dtype)
        if inside is not None:
            least, greatest = least.where(inside, torch.inf), greatest.where(inside, -torch.inf)
        torch.minimum(lowest, least.amin(1, keepdim=True), out=lowest)
        torch.maximum(highest, greatest.amax(1, keepdim=True), out=highest)
    return low.squeeze(1).double(), high.squeeze(1).double()


def count(rows: int, voxels: int, kept: Kept, device: torch.device) -> torch.Tensor:
    """Number of kept voxels of each row, ``(R,)`` int64."""
    total = torch.full((rows, 1), voxels if kept.everything else 0, device=device)
    for part, inside in zip(pieces(total, voxels), kept.inside()):
        if inside is not None:
            part += inside.sum(1, keepdim=True)
    return total.squeeze(1)


def working(dtype: torch.dtype) -> torch.dtype:
    """The precision values are worked in: float64 for what float32 cannot hold, float32 for the rest."""
    return torch.float64 if dtype in (torch.float64, torch.int32, torch.int64) else torch.float32
