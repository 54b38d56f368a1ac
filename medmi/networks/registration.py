"""Registration in one pass: a generator that maps an image pair to a transform, a discriminator that scores pairs.

Words: a *pair* is (fixed, moving), both ``(B, 1, *image_size)`` on the fixed grid; T maps fixed world points to moving
world points; the *features* are a network's layers up to the last linear one; a *score* is the discriminator's output,
higher for pairs that look registered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medmi.grid import Grid
from medmi.networks.spatial_transformer import SpatialTransformer
from medmi.spatial.generators import generators
from medmi.spatial.linear import linear_matrix
from medmi.validation import InputError

__all__ = ["PairGenerator", "PairScorer", "RegistrationDiscriminator", "RegistrationGenerator"]

TRANSLATION_MM = 12.0
ANGLE_RAD = 0.15
HIDDEN = 256
LAST_CHANNELS = 8


class PairGenerator(nn.Module):
    """A network from a pair to the parameters of a transform, with what follows from them.

    Its last layer starts at zero, so that an untrained network gives the identity.

    Args:
        features: maps fixed and moving, concatenated ``(B, 2, *spatial)``, to ``(B, HIDDEN)``.
        spatial_dims: 2 or 3.
        transform: family of the transform, a name of :data:`medmi.spatial.FAMILIES`.

    Raises:
        InputError: unknown family, or one that does not exist in this dimension.
    """

    def __init__(self, features: nn.Module, spatial_dims: int, transform: str) -> None:
        super().__init__()
        self.spatial_dims, self.family = spatial_dims, transform
        self.features = features
        scale = output_scale(transform, spatial_dims)
        self.register_buffer("scale", scale, persistent=False)
        self.scale: Tensor
        self.head = nn.Linear(HIDDEN, len(scale))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Parameters ``(B, t)`` in mm and rad, in the order of :func:`medmi.spatial.generators.generators`."""
        return self.head(self.features(joined(fixed, moving))) * self.scale

    def matrix(self, fixed: Tensor, moving: Tensor, grid: Grid) -> Tensor:
        """T of one pass ``(B, d + 1, d + 1)`` float64, ``exp`` of the parameters about the middle of both images' grid."""
        return linear_matrix(self(fixed, moving), self.family, self.spatial_dims, grid.centre.to(fixed.device))

    def transform(
        self, fixed: Tensor, moving: Tensor, fixed_grid: Grid, moving_grid: Grid | None = None, passes: int = 1
    ) -> Tensor:
        """T as world matrices, ``exp`` of the parameters about the fixed grid's centre.

        Args:
            fixed: ``(B, 1, *fixed)``.
            moving: ``(B, 1, *moving)``; the network sees it resampled on the fixed grid.
            fixed_grid: where the fixed images lie.
            moving_grid: where the moving ones lie; None: on the fixed grid.
            passes: how often the network runs, each time on what the passes before have moved.

        Returns:
            ``(B, d + 1, d + 1)`` float64, fixed world to moving world; differentiable in the network and the images.

        Raises:
            InputError: shapes that do not fit the network or the grids, or fewer than one pass.
        """
        if passes < 1:
            raise InputError(f"passes: {passes!r} came; at least 1 is asked")
        if tuple(fixed.shape[2:]) != fixed_grid.shape:
            raise InputError(
                f"fixed: shape {tuple(fixed.shape)} came; (B, 1, *{fixed_grid.shape}) is asked by its grid"
            )
        resample = SpatialTransformer(fixed_grid, moving_grid or fixed_grid)
        total = torch.eye(self.spatial_dims + 1, dtype=torch.float64, device=fixed.device).repeat(len(fixed), 1, 1)
        for step in range(passes):
            seen = moving if step == 0 and moving_grid is None else resample(moving, total)
            total = total @ self.matrix(fixed, seen, fixed_grid)
        return total

    def warp(
        self, fixed: Tensor, moving: Tensor, fixed_grid: Grid, moving_grid: Grid | None = None, passes: int = 1
    ) -> tuple[Tensor, Tensor]:
        """The pair (fixed, moving o T), both on the fixed grid; arguments and errors as for :meth:`transform`."""
        matrix = self.transform(fixed, moving, fixed_grid, moving_grid, passes)
        return fixed, SpatialTransformer(fixed_grid, moving_grid or fixed_grid)(moving, matrix)


class PairScorer(nn.Module):
    """A network from a pair to one score.

    Args:
        features: maps fixed and moving, concatenated ``(B, 2, *spatial)``, to ``(B, HIDDEN)``.
        sigmoid: whether scores pass through a sigmoid.
    """

    def __init__(self, features: nn.Module, sigmoid: bool) -> None:
        super().__init__()
        self.features, self.sigmoid = features, sigmoid
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Scores ``(B, 1)``: any real number, or between 0 and 1 with the sigmoid; higher for registered pairs."""
        scores = self.head(self.features(joined(fixed, moving)))
        return scores.sigmoid() if self.sigmoid else scores


class RegistrationGenerator(PairGenerator):
    """The published generator: seven convolutions with biases and ReLU, then two linear layers.

    (1) dilation 2; (2, 3) stride 2; (4, 5, 6) one residual block, ``relu(conv(relu(conv(relu(conv(x))))) + x)``; (7)
    kernel 1, 8 channels; flattened, linear to 256, ReLU, linear to the parameters. Zero padding makes each stride give
    ``ceil(size / 2)``. The parameters are outputs times 12 mm or 0.15 rad, so that steps of training fit both units.

    Args:
        spatial_dims: 2 or 3.
        image_size: voxels of the images along each axis; one number stands for all axes.
        transform: family of the transform.
        channels: of the first six convolutions.
        instance_norm: normalise after the first six convolutions. Not published; training needs it on few data.

    Raises:
        InputError: another dimension or family, a size that does not fit, a count under 1.

    Source: Yan et al. 2018, "Adversarial image registration with application for MR and TRUS image fusion"; layers of
    Hauck 2022, Table 1.

    >>> sum(p.numel() for p in RegistrationGenerator(3, 96).parameters())
    30533902
    """

    def __init__(
        self,
        spatial_dims: int,
        image_size: int | Sequence[int],
        transform: str = "rigid",
        channels: int = 128,
        instance_norm: bool = False,
    ) -> None:
        super().__init__(_Published(spatial_dims, image_size, channels, instance_norm), spatial_dims, transform)


class RegistrationDiscriminator(PairScorer):
    """The published discriminator: the layers of :class:`RegistrationGenerator` with one output.

    Args:
        spatial_dims: 2 or 3.
        image_size: voxels of the images along each axis; one number stands for all axes.
        channels: of the first six convolutions.
        sigmoid: whether scores pass through a sigmoid. As published they do, for GAN and WGAN alike. The default
            leaves it out: GAN losses here take scores before it (:mod:`medmi.losses.adversarial`), which is the same
            in exact arithmetic, and a WGAN's critic must not saturate. True gives the published WGAN.

    Raises:
        InputError: another dimension, a size that does not fit, a count under 1.

    Source: as for :class:`RegistrationGenerator`.
    """

    def __init__(
        self, spatial_dims: int, image_size: int | Sequence[int], channels: int = 128, sigmoid: bool = False
    ) -> None:
        super().__init__(_Published(spatial_dims, image_size, channels, False), sigmoid)


class _Published(nn.Module):
    """``(B, 2, *image_size)`` to ``(B, HIDDEN)`` by the published layers."""

    def __init__(self, spatial_dims: int, image_size: int | Sequence[int], channels: int, instance_norm: bool) -> None:
        super().__init__()
        self.image_size = checked_size(spatial_dims, image_size)
        if channels < 1:
            raise InputError(f"channels: {channels!r} came; at least 1 is asked")
        convolution = Conv[Conv.CONV, spatial_dims]
        coarse = [math.ceil(math.ceil(size / 2) / 2) for size in self.image_size]
        if instance_norm and math.prod(coarse) < 2:
            raise InputError(f"image_size: {self.image_size} leaves one voxel, which instance_norm would turn into 0")

        def layer(in_channels: int = channels, stride: int = 1, dilation: int = 1) -> nn.Sequential:
            conv = convolution(in_channels, channels, 3, stride=stride, padding=dilation, dilation=dilation)
            norm = Norm[Norm.INSTANCE, spatial_dims](channels, affine=True) if instance_norm else nn.Identity()
            return nn.Sequential(conv, norm)

        self.entry = nn.Sequential(
            layer(2, dilation=2), nn.ReLU(), layer(stride=2), nn.ReLU(), layer(stride=2), nn.ReLU()
        )
        self.residual = nn.Sequential(layer(), nn.ReLU(), layer(), nn.ReLU(), layer())
        self.exit = nn.Sequential(convolution(channels, LAST_CHANNELS, 1), nn.ReLU(), nn.Flatten())
        self.linear = nn.Linear(LAST_CHANNELS * math.prod(coarse), HIDDEN)

    def forward(self, pair: Tensor) -> Tensor:
        check_spatial(pair, self.image_size)
        x = self.entry(pair)
        x = (self.residual(x) + x).relu()
        return self.linear(self.exit(x)).relu()


def output_scale(family: str, spatial_dims: int) -> Tensor:
    """What one unit of the last layer means for each parameter, ``(t,)``.

    12 mm for translations, 0.15 for rotations (rad), log-scales, stretches and shears; perspectives have 0.15 over the
    80 mm at which 0.15 rad moves a point by 12 mm.
    """
    basis = generators(family, spatial_dims)
    translates = basis[:, :-1, -1].abs().amax(1) > 0
    tilts = basis[:, -1, :-1].abs().amax(1) > 0
    scale = torch.full((len(basis),), ANGLE_RAD)
    return scale.where(~translates, TRANSLATION_MM).where(~tilts, ANGLE_RAD**2 / TRANSLATION_MM)


def joined(fixed: Tensor, moving: Tensor) -> Tensor:
    """``(B, 2, *spatial)`` of two ``(B, 1, *spatial)``, or an error."""
    for name, image in (("fixed", fixed), ("moving", moving)):
        if image.ndim not in (4, 5) or image.shape[1] != 1:
            raise InputError(f"{name}: shape {tuple(image.shape)} came; (B, 1, *spatial), 2D or 3D, is asked")
    if fixed.shape != moving.shape:
        raise InputError(
            f"moving: shape {tuple(moving.shape)} came but fixed has {tuple(fixed.shape)}; resample it on fixed's grid"
        )
    # as_subclass would do for both kinds, but torch.export cannot trace it
    return torch.cat([image.as_tensor() if isinstance(image, MetaTensor) else image for image in (fixed, moving)], 1)


def check_spatial(pair: Tensor, image_size: tuple[int, ...]) -> None:
    """Raise unless a pair's spatial shape is the one a network is made for."""
    if tuple(pair.shape[2:]) != image_size:
        raise InputError(
            f"fixed, moving: spatial shape {tuple(pair.shape[2:])} came; this network is made for {image_size}"
        )


def checked_size(spatial_dims: int, image_size: int | Sequence[int]) -> tuple[int, ...]:
    """``image_size`` as one positive number an axis, or an error."""
    if spatial_dims not in (2, 3):
        raise InputError(f"spatial_dims: {spatial_dims!r} came; 2 or 3 is asked")
    sizes = (image_size,) * spatial_dims if isinstance(image_size, int) else tuple(int(size) for size in image_size)
    if len(sizes) != spatial_dims or min(sizes) < 1:
        raise InputError(
            f"image_size: {image_size!r} came; {spatial_dims} positive numbers are asked in {spatial_dims}D"
        )
    return sizes
