"""A small MONAI network trained by a similarity loss alone to align 2D pairs, and how far its landmarks are off.

Images are sums of Gaussian blobs, known at every point, so pairs are made without resampling: ``moving(T(x)) =
contrast(fixed(x))`` for a rigid T, and landmarks x and T(x) correspond exactly. Nothing but the loss tells the
network about T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from monai.networks.nets import Regressor
from torch import Tensor, nn

from medmi.threads import one_thread

SIDE = 32
MOST_TURN, MOST_SHIFT = 0.15, 0.25  # rad; share of half the image's side


def inverted(values: Tensor) -> Tensor:
    """Another modality: dark where the first is bright, and bent."""
    return 1 - values.clamp(0, 1) ** 2


def unchanged(values: Tensor) -> Tensor:
    """The same modality."""
    return values


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs; points are (x, y) in [-1, 1], x along the last axis.

    Attributes:
        fixed: ``(B, 1, SIDE, SIDE)``.
        moving: likewise.
        landmarks: of the fixed images, ``(B, 20, 2)``.
        matches: the same places in the moving images.
    """

    fixed: Tensor
    moving: Tensor
    landmarks: Tensor
    matches: Tensor


def rigid(parameters: Tensor, points: Tensor) -> Tensor:
    """Points ``(B, N, 2)`` turned by ``parameters[:, 0]`` rad and moved by ``parameters[:, 1:]``."""
    c, s = parameters[:, :1].cos(), parameters[:, :1].sin()
    x, y = points.unbind(-1)
    return torch.stack([c * x - s * y, s * x + c * y], -1) + parameters[:, None, 1:]


def lattice(batch: int) -> Tensor:
    """The pixels' places, ``(batch, SIDE^2, 2)``, row by row."""
    line = torch.linspace(-1, 1, SIDE)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).reshape(1, -1, 2).expand(batch, -1, -1)


def make_pairs(batch: int, contrast: Callable[[Tensor], Tensor], generator: torch.Generator) -> Pairs:
    """Fresh pairs of five blobs each."""

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    centres, widths, heights = 0.6 * uniform(batch, 5, 2), 0.25 + 0.1 * uniform(batch, 5), 0.6 + 0.3 * uniform(batch, 5)
    parameters = torch.cat([MOST_TURN * uniform(batch, 1), MOST_SHIFT * uniform(batch, 2)], 1)

    def blobs(points: Tensor) -> Tensor:
        squared = (points[:, :, None] - centres[:, None]).square().sum(-1)
        height = (heights[:, None] * torch.exp(-squared / (2 * widths[:, None] ** 2))).amax(-1)
        return height.reshape(batch, 1, SIDE, SIDE)

    back = rigid(torch.cat([-parameters[:, :1], torch.zeros(batch, 2)], 1), lattice(batch) - parameters[:, None, 1:])
    noise = 0.02 * torch.randn(2, batch, 1, SIDE, SIDE, generator=generator)
    landmarks = 0.7 * uniform(batch, 20, 2)
    return Pairs(
        blobs(lattice(batch)) + noise[0], contrast(blobs(back)) + noise[1], landmarks, rigid(parameters, landmarks)
    )


def aligner(seed: int) -> nn.Module:
    """Fixed and moving as channels ``(B, 2, SIDE, SIDE)`` to rigid parameters ``(B, 3)``, near zero at the start."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        net = Regressor(
            (2, SIDE, SIDE), (3,), channels=(16, 32, 32), strides=(2, 2, 2), num_res_units=1, norm="INSTANCE"
        )
    net.final[-1].weight.data *= 0.1
    net.final[-1].bias.data.zero_()
    return net


def predicted(net: nn.Module, pairs: Pairs) -> Tensor:
    """Rigid parameters ``(B, 3)`` within twice what occurs."""
    raw = net(torch.cat([pairs.fixed, pairs.moving], 1))
    return raw.tanh() * torch.tensor([2 * MOST_TURN, 2 * MOST_SHIFT, 2 * MOST_SHIFT])


def landmark_error(parameters: Tensor, pairs: Pairs) -> float:
    """Mean distance in pixels between the mapped landmarks and their matches."""
    return float((rigid(parameters, pairs.landmarks) - pairs.matches).norm(dim=-1).mean()) * (SIDE - 1) / 2


@one_thread()
def train_to_align(
    loss: Callable[[Tensor, Tensor], Tensor],
    extra_parameters: Iterable[nn.Parameter] = (),
    contrast: Callable[[Tensor], Tensor] = inverted,
    iterations: int = 150,
    seed: int = 0,
) -> tuple[float, float]:
    """Train with the loss on fresh pairs; mean landmark error in pixels on 128 held-out pairs, before and after.

    Args:
        loss: called with the moved and the fixed images, ``(B, 1, SIDE, SIDE)``; lower is better.
        extra_parameters: the loss's own, learnt together with the network's.
        contrast: what the moving images make of the fixed ones' values.
        iterations: steps of 32 pairs.
        seed: of everything drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    net = aligner(seed)
    optimiser = torch.optim.Adam(
        [{"params": net.parameters()}, {"params": list(extra_parameters), "lr": 5e-3}], lr=2e-3
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / iterations))
    )
    for _ in range(iterations):
        pairs = make_pairs(32, contrast, generator)
        places = rigid(predicted(net, pairs), lattice(32)).reshape(32, SIDE, SIDE, 2)
        moved = nn.functional.grid_sample(pairs.moving, places, padding_mode="border", align_corners=True)
        optimiser.zero_grad()
        loss(moved, pairs.fixed).backward()
        optimiser.step()
        schedule.step()
    held_out = make_pairs(128, contrast, torch.Generator().manual_seed(seed + 1))
    net.eval()
    with torch.no_grad():
        return landmark_error(torch.zeros(128, 3), held_out), landmark_error(predicted(net, held_out), held_out)
