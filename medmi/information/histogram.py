"""Joint histograms of image pairs, differentiable in both images, in memory that does not grow with them.

Words as in ``windows.py`` and ``moments.py``. The histogram is linear in the moments, so the images are read once to
sum them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from medmi.information.blocks import Kept, count, extremes
from medmi.information.moments import Axis, Layout, moments
from medmi.information.windows import WINDOWS, Window
from medmi.validation import InputError, choose

MOST_BINS = 1024
Interval = tuple[float, float]
ValueRange = Interval | tuple[Interval, Interval]


def joint_histogram(
    x: torch.Tensor,
    y: torch.Tensor,
    num_bins: int = 32,
    window: str = "linear",
    value_range: ValueRange | None = None,
    mask: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Joint probabilities of two images' values, ``P[b, c, i, j] = sum_n w_n k_i(x_n) k_j(y_n) / sum_n w_n``.

    k_i is the window around the centre of bin i, and the centres are ``linspace(low, high, num_bins)``; ``sum_i k_i =
    1`` everywhere. Extra memory is a few MiB for any number of voxels; sums are float64. On the CPU they run in one
    fixed order and give the same bits with any number of threads. On CUDA devices the linear and cubic windows of up
    to 64 bins have Triton kernels where Triton is installed: parts of an image are summed in compensated float32, the
    parts in float64, in one fixed order; float64 images and the rest take the torch path. On hardware they have been
    neither run nor timed. Gradients reach both images and are exact; a range found from the data is held constant.

    Args:
        x: ``(B, C, *spatial)`` with one or more spatial axes; any real dtype, under autocast or not.
        y: of the same shape.
        num_bins: bins along each axis, 2 to 1024.
        window: ``"linear"`` (fuzzy bins: a value gives 1 - f and f to its two neighbours; DeepMI, Kumar & Behera
            2020, Eq. 14-16), ``"bspline"`` (cubic, as Mattes et al. 2003 for the moving image, here for both) or
            ``"gaussian"`` (sigma half a bin, normalised over the six nearest bins).
        value_range: (low, high) for both images or one such pair for each; values beyond it count at its ends and get
            no gradient. By default the extremes of each sample and channel, inside the mask.
        mask: ``(B, 1 or C, *spatial)``; only voxels where it is not zero count, and the others may hold anything.
        weights: ``(B, 1 or C, *spatial)``, how much each voxel counts; zero or more, constant for autograd.

    Returns:
        ``(B, C, num_bins, num_bins)`` float64; x along rows, y along columns; each table sums to one.

    Raises:
        InputError: shapes disagree, num_bins or value_range cannot be used, the window is unknown, weights are
            negative or not finite, fewer than two voxels count, or one that counts is NaN or infinite.

    >>> x = torch.tensor([[[0.0, 1.0, 2.0, 2.0]]])
    >>> joint_histogram(x, x, num_bins=3)[0, 0].tolist()
    [[0.25, 0.0, 0.0], [0.0, 0.25, 0.0], [0.0, 0.0, 0.5]]
    """
    return JointHistogram(num_bins, window, value_range)(x, y, mask, weights)


@dataclass(frozen=True)
class JointHistogram:
    """The options of a joint histogram, checked once; calling it gives the tables of an image pair. See
    :func:`joint_histogram`.
    """

    num_bins: int = 32
    window: str = "linear"
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        choose(self.window, WINDOWS, "window")
        bins = self.num_bins
        if not isinstance(bins, int) or isinstance(bins, bool) or not 2 <= bins <= MOST_BINS:
            raise InputError(f"num_bins: {bins!r} cannot be used; give a whole number from 2 to {MOST_BINS}")
        try:
            sound = all(fixed is None or -torch.inf < fixed[0] < fixed[1] < torch.inf for fixed in self.intervals)
        except (TypeError, ValueError, IndexError):
            sound = False
        if not sound:
            raise InputError(
                f"value_range: {self.value_range!r} cannot be used; give (low, high), low < high, or one for each image"
            )

    @property
    def intervals(self) -> tuple[Interval | None, Interval | None]:
        """The given range of each image."""
        if self.value_range is None:
            return None, None
        one, two = self.value_range
        return (one, two) if isinstance(one, Sequence) else (self.value_range, self.value_range)  # type: ignore[return-value]

    def __call__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        mask: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        names: tuple[str, str] = ("x", "y"),
    ) -> torch.Tensor:
        """Probabilities ``(B, C, num_bins, num_bins)``; errors call the images by ``names``."""
        _check_images(x, y, mask, weights, names)
        batch, channels = x.shape[:2]
        first, second = (image.as_subclass(torch.Tensor).reshape(batch * channels, -1) for image in (x, y))
        kept = Kept(channels, mask, weights)
        _check_count(first, kept, names)
        axes = [
            self._axis(name, image, kept, fixed) for name, image, fixed in zip(names, (first, second), self.intervals)
        ]
        table = _tables(first, second, Layout(WINDOWS[self.window], self.num_bins, kept, axes[0], axes[1]))
        table = table / table.detach().sum((-1, -2), keepdim=True)
        rounding = table.detach().clamp_max(0)  # empty bins may come out as -1e-17
        return (table - rounding).reshape(batch, channels, self.num_bins, self.num_bins)

    def _axis(self, name: str, image: torch.Tensor, kept: Kept, fixed: Interval | None) -> Axis:
        low, high = extremes(image, kept)
        if not bool(torch.isfinite(low + high).all()):
            raise InputError(f"{name}: NaN or infinite values where voxels count; mask them out or replace them")
        if fixed is not None:
            low, high = torch.full_like(low, fixed[0]), torch.full_like(high, fixed[1])
        width = high - low
        scale = torch.where(width > torch.finfo(torch.float32).tiny * self.num_bins, (self.num_bins - 1) / width, 0.0)
        return Axis(low[:, None], scale[:, None], clipped=fixed is not None)


def _tables(x: torch.Tensor, y: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Images ``(R, N)`` to the sums in their bins ``(R, bins of x, bins of y)``, float64."""
    if x.is_cuda:
        from medmi.information import kernels_cuda  # Triton is asked for by CUDA tensors alone

        if kernels_cuda.takes(x, y, layout):
            return kernels_cuda.tables(x, y, layout)
    sums, window, bins = moments(x, y, layout), layout.window, layout.bins
    return _spread(_spread(sums.transpose(-1, -2), window, bins).transpose(-1, -2), window, bins)


def _spread(sums: torch.Tensor, window: Window, bins: int) -> torch.Tensor:
    """Moments ``(basis, ..., cells)`` to bins ``(..., bins)`` along the last axis, with the taps beyond an end folded
    on it.
    """
    lanes = torch.stack([_combined(tap, sums) for tap in window.taps.tolist()], -2).flatten(-2)
    taps = torch.arange(len(window.taps), device=sums.device)[:, None] + window.first
    target = (taps + torch.arange(bins - 1, device=sums.device)).clamp(0, bins - 1).flatten()
    return lanes.new_zeros(*lanes.shape[:-1], bins).scatter_add(-1, target.expand_as(lanes), lanes)


def _combined(coefficients: list[float], sums: torch.Tensor) -> torch.Tensor:
    """``sum_a coefficients[a] sums[a]``; a matrix product this small would wake every thread."""
    first, *others = [(factor, table) for factor, table in zip(coefficients, sums) if factor != 0]
    total = first[0] * first[1]
    for factor, table in others:
        total = torch.add(total, table, alpha=factor)
    return total


def _check_images(
    x: torch.Tensor,
    y: torch.Tensor,
    mask: torch.Tensor | None,
    weights: torch.Tensor | None,
    names: tuple[str, str],
) -> None:
    if x.ndim < 3 or x.is_complex():
        raise InputError(f"{names[0]}: shape {tuple(x.shape)}, {x.dtype}; a real (B, C, *spatial) is asked")
    if x.shape != y.shape or y.is_complex():
        raise InputError(
            f"{names[1]}: shape {tuple(y.shape)}, {y.dtype}, but {names[0]} has {tuple(x.shape)}; they must agree"
        )
    wanted = [(x.shape[0], channels, *x.shape[2:]) for channels in (1, x.shape[1])]
    for name, part in (("mask", mask), ("weights", weights)):
        if part is not None and tuple(part.shape) not in wanted:
            raise InputError(
                f"{name}: shape {tuple(part.shape)}; (B, 1 or C, *spatial) as in {names[0]}'s {tuple(x.shape)} is asked"
            )
    if weights is not None and not bool(((weights >= 0) & (weights < torch.inf)).all()):
        raise InputError("weights: negative, NaN or infinite values; zero or more is asked")


def _check_count(rows: torch.Tensor, kept: Kept, names: tuple[str, str]) -> None:
    counts = count(rows.shape[0], rows.shape[1], kept, rows.device)
    few = (counts < 2).nonzero().flatten().tolist()
    if few:
        sample, channel = divmod(few[0], kept.channels)
        what = names[0] if kept.everything else "mask or weights"
        raise InputError(
            f"{what}: {int(counts[few[0]])} voxel(s) count in sample {sample}, channel {channel}; two or more are asked"
        )
