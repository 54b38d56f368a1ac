"""Deep InfoMax: an image encoder whose summary is trained to be informative about every place of the image.

Words: the *local features* are the encoder's map, one vector a place; the *summary* is one vector an image. Both are
embedded in one space, where their inner product scores whether place and summary come from the same image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medmi.validation import InputError

__all__ = ["InfoMaxEncoder"]


class InfoMaxEncoder(nn.Module):
    """Encoder with Deep InfoMax's local objective.

    ``forward`` gives the summaries. :meth:`scores` gives the critic's scores in the form every row of
    :data:`medmi.information.bounds.BOUNDS` takes, so that a step of training is::

        joint, marginal = encoder.scores(images, all_pairs(len(images)))
        loss = -BOUNDS["jsd"].value(joint, marginal)

    Args:
        spatial_dims: 1, 2 or 3.
        in_channels: channels of the images.
        features: numbers in the summary.
        channels: widths of the stages, each a convolution of 4 with stride 2, batch normalisation and ReLU.
        embedding: numbers in the space where places and summaries meet.

    Shapes: images ``(N, in_channels, *spatial)``, every side at least ``2 ** len(channels)``; summaries ``(N,
    features)``.

    Raises:
        InputError: spatial_dims other than 1, 2 or 3, no stage, a count under 1, images too small.

    Source: Hjelm et al. 2019, "Learning deep representations by mutual information estimation and maximization",
    section 3.2, Eq. 8, and the encode-and-dot critic of its appendix A.2; places are summarised by their mean.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        features: int = 64,
        channels: Sequence[int] = (64, 128),
        embedding: int = 256,
    ) -> None:
        super().__init__()
        if spatial_dims not in (1, 2, 3):
            raise InputError(f"spatial_dims: {spatial_dims!r} came; 1, 2 or 3 is asked")
        counts = {"in_channels": in_channels, "features": features, "embedding": embedding}
        for name, count in {**counts, "channels": min(channels, default=0)}.items():
            if count < 1:
                raise InputError(f"{name}: {count} came; at least 1 is asked")
        self.spatial_dims, self.least = spatial_dims, 2 ** len(channels)
        widths = [in_channels, *channels]
        self.local = nn.Sequential(*(_stage(spatial_dims, a, b) for a, b in pairwise(widths)))
        self.summary = nn.Sequential(nn.Linear(widths[-1], widths[-1]), nn.ReLU(), nn.Linear(widths[-1], features))
        self.embed_place = nn.Sequential(nn.Linear(widths[-1], embedding), nn.ReLU(), nn.Linear(embedding, embedding))
        self.embed_summary = nn.Sequential(nn.Linear(features, embedding), nn.ReLU(), nn.Linear(embedding, embedding))

    def forward(self, images: Tensor) -> Tensor:
        """Summaries ``(N, features)``."""
        return self.summary(self._places(images).mean(1))

    def scores(self, images: Tensor, pairing: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of each place with its own image's summary ``(N P,)`` and with other images' ``(K, N P)``.

        Args:
            images: ``(N, in_channels, *spatial)``, which the encoder sees as P places each.
            pairing: ``(K, N)``: the images whose summaries image i's places are paired with.
        """
        places = self._places(images)
        summaries = self.embed_summary(self.summary(places.mean(1)))
        scores = torch.einsum("npe,me->nmp", self.embed_place(places), summaries)
        own = torch.arange(len(images), device=images.device)
        others = scores[own, pairing.to(images.device)]
        return scores[own, own].flatten(), others.flatten(1)

    def _places(self, images: Tensor) -> Tensor:
        if images.ndim != self.spatial_dims + 2 or min(images.shape[2:]) < self.least:
            raise InputError(
                f"images: shape {tuple(images.shape)} came; (N, C, *spatial) with {self.spatial_dims} spatial axes "
                f"of at least {self.least} is asked"
            )
        return self.local(images).flatten(2).transpose(1, 2)


def _stage(spatial_dims: int, before: int, after: int) -> nn.Module:
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[spatial_dims](after)
    return nn.Sequential(Conv[Conv.CONV, spatial_dims](before, after, 4, stride=2, padding=1), norm, nn.ReLU())
