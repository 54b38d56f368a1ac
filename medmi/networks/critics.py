"""Critics: networks that give a pair (x, y) one real score, which training turns into its log density ratio.

Every critic is called as ``critic(x, y)`` with ``(N, ...)`` and ``(N, ...)`` and returns ``(N,)``. Those that take
images are named by what they pair: image with image, image with values, sequence with sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from medmi.validation import InputError

__all__ = [
    "BilinearCritic",
    "EmbeddingCritic",
    "ImagePairCritic",
    "ImageValuesCritic",
    "SeparableCritic",
    "SequencePairCritic",
    "StatisticsNetwork",
]

PUBLISHED_STD = 0.02


class StatisticsNetwork(nn.Module):
    """Score of a pair of vectors, such as the colours of a voxel in two images: 2-100-100-1 with ELU by default.

    Args:
        x_features: numbers in x: 1 for grey voxels, 3 for colour (six inputs in all).
        y_features: numbers in y.
        hidden: widths of the hidden layers.
        published_init: draw all weights from N(0, 0.02) with zero biases, as published; on standardised inputs it
            needs about twice the iterations of the default start.

    Shapes: x ``(N, x_features)``, y ``(N, y_features)``, scores ``(N,)``.

    Source: Belghazi et al. 2018, "Mutual Information Neural Estimation", appendix; Nan et al. 2020, "DRMIME".

    >>> sum(p.numel() for p in StatisticsNetwork(3, 3).parameters())
    10901
    """

    def __init__(
        self, x_features: int = 1, y_features: int = 1, hidden: Sequence[int] = (100, 100), published_init: bool = False
    ) -> None:
        super().__init__()
        _check_positive(x_features=x_features, y_features=y_features, hidden=min(hidden, default=0))
        self.layers = _perceptron([x_features + y_features, *hidden, 1], nn.ELU)
        if published_init:
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=PUBLISHED_STD)
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layers(torch.cat([x, y], 1))[:, 0]


class EmbeddingCritic(nn.Module, ABC):
    """A critic that sees x and y apart before they meet, so that re-pairing N of each costs N embeddings of each.

    Args:
        x_features: maps x ``(N, ...)`` to an embedding ``(N, e)``.
        y_features: maps y ``(N, ...)`` to an embedding ``(N, f)``.
    """

    def __init__(self, x_features: nn.Module, y_features: nn.Module) -> None:
        super().__init__()
        self.x_features, self.y_features = x_features, y_features

    @abstractmethod
    def meet(self, x_embedding: Tensor, y_embedding: Tensor) -> Tensor:
        """Scores ``(N,)`` of embedded pairs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.meet(self.x_features(x), self.y_features(y))


class SeparableCritic(EmbeddingCritic):
    """<g(x), h(y)>, two embeddings met in an inner product.

    Args:
        x_features: maps x to ``(N, features)``.
        y_features: maps y to ``(N, features)``.

    Source: Poole et al. 2019, "On Variational Bounds of Mutual Information", section 3.
    """

    def meet(self, x_embedding: Tensor, y_embedding: Tensor) -> Tensor:
        return (x_embedding * y_embedding).sum(1)


class BilinearCritic(nn.Module):
    """x^T W y of two vectors.

    Args:
        x_features: numbers in x.
        y_features: numbers in y.

    Shapes: x ``(N, x_features)``, y ``(N, y_features)``, scores ``(N,)``.

    Source: van den Oord et al. 2018, "Contrastive Predictive Coding", Eq. 3, of which it is the logarithm.
    """

    def __init__(self, x_features: int, y_features: int) -> None:
        super().__init__()
        _check_positive(x_features=x_features, y_features=y_features)
        self.form = nn.Linear(y_features, x_features, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x * self.form(y)).sum(1)


class ImagePairCritic(EmbeddingCritic):
    """Score of two images, each seen by its own convolutions, met in a perceptron.

    Args:
        spatial_dims: 1, 2 or 3.
        x_channels: channels of x.
        y_channels: channels of y.
        channels: convolution widths, one stage (convolution of 5, ReLU, maximum over 2) each.
        hidden: width of the perceptron.

    Shapes: x ``(N, x_channels, *spatial)``, y ``(N, y_channels, *spatial)``, of any sizes not under ``2 **
    len(channels)``; scores ``(N,)``.

    Source: the image-pair network of Fleuret's mutual-information experiments, freed of its fixed size.
    """

    def __init__(
        self,
        spatial_dims: int,
        x_channels: int = 1,
        y_channels: int = 1,
        channels: Sequence[int] = (16, 32),
        hidden: int = 200,
    ) -> None:
        x_features, y_features = (_Features(spatial_dims, c, channels) for c in (x_channels, y_channels))
        super().__init__(x_features, y_features)
        self.head = _perceptron([x_features.size + y_features.size, hidden, 1], nn.ReLU)

    def meet(self, x_embedding: Tensor, y_embedding: Tensor) -> Tensor:
        return self.head(torch.cat([x_embedding, y_embedding], 1))[:, 0]


class ImageValuesCritic(EmbeddingCritic):
    """Score of an image with a vector of values.

    Args:
        spatial_dims: 1, 2 or 3.
        x_channels: channels of the image.
        y_features: numbers in the vector.
        channels: convolution widths, as in :class:`ImagePairCritic`.
        hidden: width of the perceptron.

    Shapes: x ``(N, x_channels, *spatial)``, y ``(N, y_features)``, scores ``(N,)``.

    Source: the image-values-pair network of Fleuret's mutual-information experiments.
    """

    def __init__(
        self,
        spatial_dims: int,
        x_channels: int = 1,
        y_features: int = 2,
        channels: Sequence[int] = (16, 32),
        hidden: int = 200,
    ) -> None:
        _check_positive(y_features=y_features)
        image = _Features(spatial_dims, x_channels, channels)
        super().__init__(image, nn.Sequential(*_perceptron([y_features, 32, 32, 128], nn.ReLU), nn.ReLU()))
        self.head = _perceptron([image.size + 128, hidden, 1], nn.ReLU)

    def meet(self, x_embedding: Tensor, y_embedding: Tensor) -> Tensor:
        return self.head(torch.cat([x_embedding, y_embedding], 1))[:, 0]


class SequencePairCritic(EmbeddingCritic):
    """Score of two sequences of any lengths, each averaged over time after its own convolutions.

    Args:
        x_channels: channels of x.
        y_channels: channels of y.
        channels: convolution widths, as in :class:`ImagePairCritic`.
        hidden: width of the perceptron.

    Shapes: x ``(N, x_channels, length)``, y ``(N, y_channels, length)``, lengths not under ``2 ** len(channels)``;
    scores ``(N,)``.

    Source: the sequence-pair network of Fleuret's mutual-information experiments.
    """

    def __init__(
        self, x_channels: int = 1, y_channels: int = 1, channels: Sequence[int] = (32, 32, 32, 32), hidden: int = 128
    ) -> None:
        x_features, y_features = (_Features(1, c, channels, cells=1) for c in (x_channels, y_channels))
        super().__init__(x_features, y_features)
        self.head = _perceptron([x_features.size + y_features.size, hidden, 1], nn.ReLU)

    def meet(self, x_embedding: Tensor, y_embedding: Tensor) -> Tensor:
        return self.head(torch.cat([x_embedding, y_embedding], 1))[:, 0]


class _Features(nn.Module):
    """``(N, in_channels, *spatial)`` to ``(N, size)``: convolution stages, then means over parts of each axis."""

    def __init__(self, spatial_dims: int, in_channels: int, channels: Sequence[int], cells: int = 4) -> None:
        super().__init__()
        if spatial_dims not in (1, 2, 3):
            raise InputError(f"spatial_dims: {spatial_dims!r} came; 1, 2 or 3 is asked")
        _check_positive(in_channels=in_channels, channels=min(channels, default=0))
        convolution, maximum = Conv[Conv.CONV, spatial_dims], Pool[Pool.MAX, spatial_dims]
        widths = [in_channels, *channels]
        stages = [
            nn.Sequential(convolution(before, after, 5, padding=2), nn.ReLU(), maximum(2))
            for before, after in pairwise(widths)
        ]
        self.layers = nn.Sequential(*stages, Pool[Pool.ADAPTIVEAVG, spatial_dims](cells), nn.Flatten())
        self.spatial_dims, self.least = spatial_dims, 2 ** len(channels)
        self.size = widths[-1] * cells**spatial_dims

    def forward(self, image: Tensor) -> Tensor:
        if image.ndim != self.spatial_dims + 2 or min(image.shape[2:]) < self.least:
            raise InputError(
                f"critic: an image of shape {tuple(image.shape)} came; (N, C, *spatial) with {self.spatial_dims} "
                f"spatial axes of at least {self.least} is asked"
            )
        return self.layers(image)


def _perceptron(widths: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def _check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name}: {count} came; at least 1 is asked")
