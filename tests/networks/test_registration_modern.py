"""The modern registration networks: size, speed, any image size, cells, norm, refusals."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
import torch
from torch import nn

from medmi.networks import ModernRegistrationDiscriminator, ModernRegistrationGenerator
from medmi.networks.registration_modern import cell_means
from medmi.validation import InputError
from tests.oracles.grids import oblique_grid

PUBLISHED_AT_96_CUBED = 30_533_902


def images(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, *size, generator=source), torch.rand(2, 1, *size, generator=source)


def count_by_hand(spatial_dims: int, widths: tuple[int, ...], cells: int, outputs: int, norm: bool) -> int:
    kernel = 3**spatial_dims
    total = kernel * 2 * widths[0] + widths[0]
    for before, after in pairwise(widths):
        total += kernel * before * after + after + kernel * after * after + after + before * after + after
        total += 4 * after if norm else 0
    return total + (widths[-1] * cells**spatial_dims + 1) * 256 + 257 * outputs


@pytest.mark.parametrize(("spatial_dims", "outputs"), [(2, 3), (3, 6)])
@pytest.mark.parametrize("cells", [1, 4])
def test_counts_and_shapes_are_those_by_hand(spatial_dims, outputs, cells):
    widths = (16, 32, 64, 128)
    network = ModernRegistrationGenerator(spatial_dims, cells=cells)
    critic = ModernRegistrationDiscriminator(spatial_dims, cells=cells)
    assert sum(p.numel() for p in network.parameters()) == count_by_hand(spatial_dims, widths, cells, outputs, True)
    assert sum(p.numel() for p in critic.parameters()) == count_by_hand(spatial_dims, widths, cells, 1, False)
    pair = images(*(19, 23, 29)[:spatial_dims])
    assert network(*pair).shape == (2, outputs) and critic(*pair).shape == (2, 1)


def test_a_tenth_of_the_published_parameters_and_under_20_mb():
    count = sum(p.numel() for p in ModernRegistrationGenerator(3).parameters())
    assert 0.08 < count / PUBLISHED_AT_96_CUBED < 0.12 and 4 * count < 20e6


def test_a_pair_of_96_cubed_takes_under_a_second():
    network = ModernRegistrationGenerator(3).eval()
    pair = torch.rand(1, 1, 96, 96, 96), torch.rand(1, 1, 96, 96, 96)
    seconds = []
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            network(*pair)
            seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


@pytest.mark.parametrize("size", [(17, 17), (19, 23), (33, 40)])
def test_any_size_is_taken(size):
    network, grid = ModernRegistrationGenerator(2), oblique_grid(size)
    assert torch.equal(network(*images(*size)), torch.zeros(2, 3))
    assert network.transform(*images(*size), grid).shape == (2, 3, 3)


def test_a_size_that_was_asked_for_is_held_to():
    with pytest.raises(InputError, match=r"\(19, 24\) came; this network is made for \(19, 23\)"):
        ModernRegistrationGenerator(2, (19, 23))(*images(19, 24))


def test_norm_is_in_the_generator_alone():
    assert sum(isinstance(m, nn.InstanceNorm3d) for m in ModernRegistrationGenerator(3).modules()) == 6
    assert not any("Norm" in type(m).__name__ for m in ModernRegistrationDiscriminator(3).modules())


def test_a_sample_scores_the_same_in_any_batch():
    critic, pair = ModernRegistrationDiscriminator(2), images(32, 32)
    torch.testing.assert_close(critic(*pair)[:1], critic(pair[0][:1], pair[1][:1]))


def test_sigmoid_when_asked_for():
    plain, bounded = ModernRegistrationDiscriminator(2), ModernRegistrationDiscriminator(2, sigmoid=True)
    bounded.load_state_dict(plain.state_dict())
    torch.testing.assert_close(bounded(*images(32, 32)), plain(*images(32, 32)).sigmoid())


@pytest.mark.parametrize("size", [(2, 3, 9), (5, 7, 4), (8, 4, 6)])
@pytest.mark.parametrize("cells", [1, 3, 4])
def test_cell_means_are_adaptive_averages(size, cells):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(cell_means(x, cells), nn.functional.adaptive_avg_pool3d(x, cells))


def test_cell_means_have_their_gradients():
    x = torch.rand(1, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cell_means(x, 3), x)
    assert torch.autograd.gradgradcheck(lambda x: cell_means(x, 3).square(), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims: 1"),
        ({"spatial_dims": 2, "image_size": (4, 32)}, "at least 17 voxels"),
        ({"spatial_dims": 2, "widths": ()}, "widths: 0"),
        ({"spatial_dims": 2, "cells": 0}, "cells: 0"),
        ({"spatial_dims": 2, "image_size": (32, 32, 32)}, "2 positive numbers"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    for network in (ModernRegistrationGenerator, ModernRegistrationDiscriminator):
        with pytest.raises(InputError, match=message):
            network(**arguments)


@pytest.mark.parametrize(("size", "message"), [((16, 16, 16), "3D images came"), ((12, 32), "at least 17 voxels")])
def test_images_that_do_not_fit_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        ModernRegistrationGenerator(2)(*images(*size))
