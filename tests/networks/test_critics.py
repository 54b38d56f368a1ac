"""Critics: shapes in 1D, 2D and 3D, published layers and starts, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medmi.networks import (
    BilinearCritic,
    ImagePairCritic,
    ImageValuesCritic,
    SeparableCritic,
    SequencePairCritic,
    StatisticsNetwork,
)
from medmi.validation import InputError

SIZES = {1: (19,), 2: (19, 23), 3: (9, 13, 11)}


def test_statistics_network_has_the_published_layers() -> None:
    linear = [layer for layer in StatisticsNetwork().layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(2, 100), (100, 100), (100, 1)]
    assert sum(isinstance(layer, nn.ELU) for layer in StatisticsNetwork().layers) == 2


def test_colour_takes_six_inputs_and_hidden_widths_are_free() -> None:
    network = StatisticsNetwork(3, 3, hidden=(7,))
    assert network.layers[0].in_features == 6 and network(torch.rand(5, 3), torch.rand(5, 3)).shape == (5,)


def test_published_start_is_normal_with_zero_biases() -> None:
    network = StatisticsNetwork(hidden=(400, 400), published_init=True)
    for name, parameter in network.named_parameters():
        if "bias" in name:
            assert (parameter == 0).all()
        elif parameter.numel() > 10_000:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_image_critics_score_each_pair_by_itself(spatial_dims: int) -> None:
    x = torch.rand(4, 2, *SIZES[spatial_dims])
    y = torch.rand(4, 3, *(n + 2 for n in SIZES[spatial_dims]))
    values = torch.rand(4, 5)
    for critic, other in (
        (ImagePairCritic(spatial_dims, 2, 3, channels=(4, 6), hidden=8), y),
        (ImageValuesCritic(spatial_dims, 2, 5, channels=(4, 6), hidden=8), values),
    ):
        scores = critic(x, other)
        assert scores.shape == (4,)
        torch.testing.assert_close(critic(x[2:3], other[2:3]), scores[2:3])
        scores.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())


def test_sequences_may_have_unlike_lengths() -> None:
    critic = SequencePairCritic(2, 1, channels=(4, 4), hidden=8)
    assert critic(torch.rand(3, 2, 37), torch.rand(3, 1, 64)).shape == (3,)


def test_separable_critic_is_the_inner_product_of_embeddings() -> None:
    g, h = nn.Linear(2, 6), nn.Linear(3, 6)
    x, y = torch.rand(5, 2), torch.rand(5, 3)
    torch.testing.assert_close(SeparableCritic(g, h)(x, y), (g(x) @ h(y).T).diagonal())


def test_bilinear_critic_is_its_form() -> None:
    critic, x, y = BilinearCritic(2, 3), torch.rand(5, 2), torch.rand(5, 3)
    torch.testing.assert_close(critic(x, y), torch.einsum("ni,ij,nj->n", x, critic.form.weight, y))


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: StatisticsNetwork(0, 1), "x_features: 0"),
        (lambda: StatisticsNetwork(1, 0), "y_features: 0"),
        (lambda: StatisticsNetwork(hidden=(4, 0)), "hidden: 0"),
        (lambda: BilinearCritic(1, -1), "y_features: -1"),
        (lambda: ImagePairCritic(4), "spatial_dims: 4"),
        (lambda: ImagePairCritic(2, x_channels=0), "in_channels: 0"),
        (lambda: ImagePairCritic(2, channels=()), "channels: 0"),
        (lambda: ImageValuesCritic(2, y_features=0), "y_features: 0"),
        (lambda: ImagePairCritic(2)(torch.rand(1, 1, 3, 9), torch.rand(1, 1, 9, 9)), r"\(1, 1, 3, 9\)"),
        (lambda: ImagePairCritic(2)(torch.rand(1, 1, 9), torch.rand(1, 1, 9, 9)), "2 spatial axes"),
    ],
)
def test_refusals_name_the_argument(build, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build()
