"""Triton kernels for the joint tables of image pairs on CUDA devices, and their way back.

The torch walk of ``moments.py`` is the oracle and does what these do not take (the Gaussian window, more than 64 bins,
float64). A row is cut in *parts* that depend on its length alone; each program forms the window weights of one part in
registers, a few voxels at a time, and multiplies them into a table of its own. The tables of the parts are summed by
torch in float64 and a fixed order: no atomics, the same bits in every run. They were checked in Triton's
interpreter and compile for compute capabilities 8.0 and 9.0; on hardware they have been neither run nor timed.

Words as in ``windows.py`` and ``moments.py``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from medmi.information.blocks import Kept
from medmi.information.moments import Layout, working_pair
from medmi.information.windows import WINDOWS, Window

try:
    import triton
    import triton.language as tl

    jit = triton.jit
except ImportError:  # not every platform has it; then :func:`takes` refuses, and nothing here is launched
    triton = None

    def jit(function: Any) -> Any:
        """The plain function, which has no use without Triton."""
        return function


MOST_BINS = 64
"""Bins beyond which a table does not fit the registers of one program."""
PARTS = 1024
SHORTEST_PART = 8192
VOXELS = 32
"""Voxels multiplied at a time; their sum alone is not compensated for rounding."""
READ_VOXELS = 512


@jit
def place_of(image, at, kept, low, scale):
    """Continuous bin index of the kept voxels at ``at``, zero for the others, before clipping."""
    values = tl.load(image + at, mask=kept, other=0.0).to(tl.float32)
    return tl.where(kept, (values - low) * scale, 0.0)


@jit
def kept_at(mask, of_mask, weights, of_weights, there, HAS_MASK: tl.constexpr, HAS_WEIGHTS: tl.constexpr):
    """Which of the voxels that are ``there`` count, and how much (float32, zero for the others)."""
    kept = there
    if HAS_MASK:
        kept = kept & (tl.load(mask + of_mask, mask=there, other=0) != 0)
    weight = kept.to(tl.float32)
    if HAS_WEIGHTS:
        loaded = tl.load(weights + of_weights, mask=kept, other=0)
        kept = kept & (loaded != 0)
        weight = tl.where(kept, loaded.to(tl.float32), 0.0)
    return kept, weight


@jit
def cubic(distance):
    """The cubic B-spline at a distance from its centre."""
    far = tl.abs(distance)
    tail = tl.maximum(2.0 - far, 0.0)
    return tl.where(far < 1.0, 2.0 / 3.0 - far * far * (1.0 - 0.5 * far), tail * tail * tail / 6.0)


@jit
def bin_weights(place, centre, bins, DEGREE: tl.constexpr):
    """Window weights at the bin centres, what lies beyond an end added to it; ``place`` and ``centre`` broadcast."""
    if DEGREE == 1:
        return tl.maximum(1.0 - tl.abs(place - centre), 0.0)
    weights = cubic(place - centre)
    weights += tl.where(centre == 0, cubic(place + 1.0), 0.0)
    weights += tl.where(centre == bins - 1, cubic(bins - place), 0.0)
    return tl.where(centre < bins, weights, 0.0)


@jit
def add_part(
    x, y, mask, weights, sides, out, voxels, length, parts, bins, channels, mask_channels, weight_channels,
    DEGREE: tl.constexpr, HAS_MASK: tl.constexpr, HAS_WEIGHTS: tl.constexpr, BINS: tl.constexpr, VOXELS: tl.constexpr,
):  # fmt: skip
    """The table of one part of one row, ``(BINS, BINS)`` float32, with rounding errors carried along (Kahan)."""
    row, part = (tl.program_id(0) // parts).to(tl.int64), tl.program_id(0) % parts
    low_x, scale_x = tl.load(sides + row * 4), tl.load(sides + row * 4 + 1)
    low_y, scale_y = tl.load(sides + row * 4 + 2), tl.load(sides + row * 4 + 3)
    of_mask = (row // channels * mask_channels + row % channels % mask_channels) * voxels
    of_weights = (row // channels * weight_channels + row % channels % weight_channels) * voxels
    centre, top = tl.arange(0, BINS), (bins - 1).to(tl.float32)
    total = tl.zeros((BINS, BINS), tl.float32)
    excess = tl.zeros((BINS, BINS), tl.float32)
    for start in range(0, length, VOXELS):
        n = part.to(tl.int64) * length + start + tl.arange(0, VOXELS)
        kept, weight = kept_at(mask, of_mask + n, weights, of_weights + n, n < voxels, HAS_MASK, HAS_WEIGHTS)
        u = place_of(x, row * voxels + n, kept, low_x, scale_x)
        v = place_of(y, row * voxels + n, kept, low_y, scale_y)
        u, v = tl.minimum(tl.maximum(u, 0.0), top), tl.minimum(tl.maximum(v, 0.0), top)
        along_x = bin_weights(u[None, :], centre[:, None], bins, DEGREE) * weight[None, :]
        along_y = bin_weights(v[:, None], centre[None, :], bins, DEGREE)
        term = tl.dot(along_x, along_y, input_precision="ieee") - excess
        grown = total + term
        excess = (grown - total) - term
        total = grown
    at = tl.program_id(0).to(tl.int64) * BINS * BINS + centre[:, None] * BINS + centre[None, :]
    tl.store(out + at, total)


@jit
def read_slopes(
    x, y, mask, weights, sides, slopes, grad_x, grad_y, voxels, blocks, bins, channels, mask_channels, weight_channels,
    DEGREE: tl.constexpr, HAS_MASK: tl.constexpr, HAS_WEIGHTS: tl.constexpr, CLIPPED_X: tl.constexpr,
    CLIPPED_Y: tl.constexpr, NEED_X: tl.constexpr, NEED_Y: tl.constexpr, VOXELS: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of one row, read at its voxels' joint cells from ``slopes (R, cells, cells, basis^2)``."""
    row, block = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks
    low_x, scale_x = tl.load(sides + row * 4), tl.load(sides + row * 4 + 1)
    low_y, scale_y = tl.load(sides + row * 4 + 2), tl.load(sides + row * 4 + 3)
    of_mask = (row // channels * mask_channels + row % channels % mask_channels) * voxels
    of_weights = (row // channels * weight_channels + row % channels % weight_channels) * voxels
    n = block.to(tl.int64) * VOXELS + tl.arange(0, VOXELS)
    kept, weight = kept_at(mask, of_mask + n, weights, of_weights + n, n < voxels, HAS_MASK, HAS_WEIGHTS)
    place_x = place_of(x, row * voxels + n, kept, low_x, scale_x)
    place_y = place_of(y, row * voxels + n, kept, low_y, scale_y)
    cells, top = bins - 1, (bins - 1).to(tl.float32)
    u, v = tl.minimum(tl.maximum(place_x, 0.0), top), tl.minimum(tl.maximum(place_y, 0.0), top)
    i, j = tl.minimum(u.to(tl.int32), cells - 1), tl.minimum(v.to(tl.int32), cells - 1)
    f, g = u - i.to(tl.float32), v - j.to(tl.float32)
    at = slopes + ((row * cells + i) * cells + j) * ((DEGREE + 1) * (DEGREE + 1))
    along_x, along_y = tl.zeros_like(f), tl.zeros_like(f)
    rise_x, power_x = tl.zeros_like(f), tl.zeros_like(f) + 1.0
    for a in tl.static_range(DEGREE + 1):
        rise_y, power_y = tl.zeros_like(f), tl.zeros_like(f) + 1.0
        for b in tl.static_range(DEGREE + 1):
            slope = tl.load(at + a * (DEGREE + 1) + b, mask=kept, other=0.0)
            along_x += rise_x * power_y * slope
            along_y += power_x * rise_y * slope
            rise_y, power_y = power_y + g * rise_y, power_y * g  # d(g^(b+1)) = g^b + g d(g^b)
        rise_x, power_x = power_x + f * rise_x, power_x * f
    if NEED_X:
        factor = tl.where(place_x == u, weight, 0.0) if CLIPPED_X else weight
        tl.store(grad_x + row * voxels + n, along_x * scale_x * factor, mask=n < voxels)
    if NEED_Y:
        factor = tl.where(place_y == v, weight, 0.0) if CLIPPED_Y else weight
        tl.store(grad_y + row * voxels + n, along_y * scale_y * factor, mask=n < voxels)


def takes(x: torch.Tensor, y: torch.Tensor, layout: Layout) -> bool:
    """Whether the kernels can do this pair of images."""
    windows = (WINDOWS["linear"], WINDOWS["bspline"])
    known = any(layout.window is window for window in windows) and layout.bins <= MOST_BINS
    return triton is not None and known and working_pair(x, y) == torch.float32


def tables(x: torch.Tensor, y: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Images ``(R, N)`` to their joint sums ``(R, bins, bins)``, float64, differentiable once in both images."""
    found: torch.Tensor = _Tables.apply(x, y, layout)
    return found


class _Tables(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, layout: Layout) -> torch.Tensor:
        x, y = x.contiguous(), y.contiguous()
        ctx.save_for_backward(x, y)
        ctx.layout = layout
        rows, voxels = x.shape
        parts = min(PARTS, triton.cdiv(voxels, SHORTEST_PART))
        length = triton.cdiv(triton.cdiv(voxels, parts), VOXELS) * VOXELS
        side = max(16, triton.next_power_of_2(layout.bins))
        out = torch.empty(rows, parts, side, side, dtype=torch.float32, device=x.device)
        mask, weights, counts = _kept(layout.kept, x)
        with torch.cuda.device_of(x):
            add_part[(rows * parts,)](
                x, y, mask, weights, _sides(layout), out, voxels, length, parts, layout.bins, *counts,
                **_options(layout), BINS=side, VOXELS=VOXELS, num_warps=8 if side > 32 else 4,
                enable_fp_fusion=True,
            )  # fmt: skip
        return out.sum(1, dtype=torch.float64)[:, : layout.bins, : layout.bins].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x, y), layout, needed = ctx.saved_tensors, ctx.layout, ctx.needs_input_grad
        rows, voxels = x.shape
        blocks = triton.cdiv(voxels, READ_VOXELS)
        slopes = gathered(gathered(gradient, layout.window).transpose(-1, -2), layout.window).flatten(0, 1)
        read = slopes.permute(1, 3, 2, 0).float().contiguous()
        grads = [torch.empty_like(image) if need else None for image, need in zip((x, y), needed)]
        mask, weights, counts = _kept(layout.kept, x)
        with torch.cuda.device_of(x):
            read_slopes[(rows * blocks,)](
                x, y, mask, weights, _sides(layout), read, *(x if grad is None else grad for grad in grads),
                voxels, blocks, layout.bins, *counts, **_options(layout), CLIPPED_X=layout.x.clipped,
                CLIPPED_Y=layout.y.clipped, NEED_X=needed[0], NEED_Y=needed[1], VOXELS=READ_VOXELS,
                enable_fp_fusion=True,
            )  # fmt: skip
        return (*grads, None)


def gathered(gradient: torch.Tensor, window: Window) -> torch.Tensor:
    """Gradient by bins ``(..., bins)`` to that by moments ``(basis, ..., cells)``, along the last axis."""
    bins, device = gradient.shape[-1], gradient.device
    taps = torch.arange(len(window.taps), device=device)[:, None] + window.first
    target = (taps + torch.arange(bins - 1, device=device)).clamp(0, bins - 1)
    lanes, coefficients = gradient[..., target].movedim(-2, 0), window.taps.T.to(gradient)
    return (coefficients.reshape(*coefficients.shape, *[1] * gradient.ndim) * lanes).sum(1)


def _sides(layout: Layout) -> torch.Tensor:
    """Low and scale of x, then of y, ``(R, 4)`` float32."""
    return torch.cat([layout.x.low, layout.x.scale, layout.y.low, layout.y.scale], 1).float()


def _kept(kept: Kept, stand_in: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int, int]]:
    """Mask and weights, with a tensor that is not read where there is none, and the channels of images and both."""
    parts = [stand_in if part is None else part.contiguous() for part in (kept.mask, kept.weights)]
    own = [1 if part is None else part.shape[1] for part in (kept.mask, kept.weights)]
    return parts[0], parts[1], (kept.channels, own[0], own[1])


def _options(layout: Layout) -> dict[str, Any]:
    """What the kernels are compiled for."""
    return {
        "DEGREE": layout.window.taps.shape[1] - 1,
        "HAS_MASK": layout.kept.mask is not None,
        "HAS_WEIGHTS": layout.kept.weights is not None,
    }
