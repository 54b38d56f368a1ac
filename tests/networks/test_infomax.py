"""InfoMaxEncoder: scores against their plain definition, its objective raised by training, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from medmi.information.bounds import BOUNDS
from medmi.information.pairs import all_pairs
from medmi.networks import InfoMaxEncoder
from medmi.threads import one_thread
from medmi.validation import InputError

SIZES = {1: (19,), 2: (12, 15), 3: (8, 9, 11)}


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_scores_are_inner_products_of_places_and_summaries(spatial_dims: int) -> None:
    encoder = InfoMaxEncoder(spatial_dims, 2, features=5, channels=(4, 6), embedding=7).eval()
    images = torch.rand(4, 2, *SIZES[spatial_dims])
    joint, marginal = encoder.scores(images, all_pairs(4))
    summaries = encoder.embed_summary(encoder(images))
    assert encoder(images).shape == (4, 5)
    for i in range(4):
        places = encoder.embed_place(encoder.local(images[i : i + 1]).flatten(2)[0].T)
        torch.testing.assert_close(joint.reshape(4, -1)[i], places @ summaries[i])
        for k, j in enumerate(all_pairs(4)[:, i]):
            torch.testing.assert_close(marginal.reshape(3, 4, -1)[k, i], places @ summaries[j])


@one_thread()
def test_summaries_learn_what_the_images_differ_in() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    level = torch.rand(64, 1, 1, 1, generator=generator)
    images = level + 0.05 * torch.randn(64, 1, 8, 8, generator=generator)
    encoder = InfoMaxEncoder(2, features=4, channels=(8,), embedding=16)
    optimiser = torch.optim.Adam(encoder.parameters(), 3e-3)
    values = []
    for _ in range(150):
        batch = images[torch.randperm(64, generator=generator)[:16]]
        value = BOUNDS["jsd"].value(*encoder.scores(batch, all_pairs(16)))
        optimiser.zero_grad()
        (-value).backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[0] < 0.05 < sum(values[-20:]) / 20 < math.log(2)
    encoder.eval()
    summaries = encoder(images).detach()
    design = torch.cat([summaries, torch.ones(64, 1)], 1)
    residual = level.flatten() - design @ torch.linalg.lstsq(design, level.flatten()).solution
    assert float(residual.var() / level.var()) < 0.05


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: InfoMaxEncoder(4), "spatial_dims: 4"),
        (lambda: InfoMaxEncoder(2, features=0), "features: 0"),
        (lambda: InfoMaxEncoder(2, channels=()), "channels: 0"),
        (lambda: InfoMaxEncoder(2)(torch.rand(2, 1, 3, 9)), r"images: shape \(2, 1, 3, 9\)"),
        (lambda: InfoMaxEncoder(2)(torch.rand(2, 1, 9)), "2 spatial axes"),
    ],
)
def test_refusals_name_the_argument(build, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build()
