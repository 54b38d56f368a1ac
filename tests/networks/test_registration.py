"""Published registration networks: layers and counts by hand, what follows from the parameters, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.linalg import expm
from torch import nn

from medmi.networks import RegistrationDiscriminator, RegistrationGenerator
from medmi.networks.registration import output_scale
from medmi.spatial import generators
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, array_of, itk_image, oblique_grid

# Parameters by hand: kernels x inputs x outputs + biases of convolution 1, 2-6 and 7, then both linear layers.
COUNTS = {
    (2, (32, 32), 3): 9 * 2 * 128 + 128 + 5 * (9 * 128 * 128 + 128) + 128 * 8 + 8 + (8 * 8 * 8 + 1) * 256 + 257 * 3,
    (2, (19, 23), 3): 9 * 2 * 128 + 128 + 5 * (9 * 128 * 128 + 128) + 128 * 8 + 8 + (5 * 6 * 8 + 1) * 256 + 257 * 3,
    (3, (9, 12, 17), 6): 27 * 2 * 128
    + 128
    + 5 * (27 * 128 * 128 + 128)
    + 128 * 8
    + 8
    + (3 * 3 * 5 * 8 + 1) * 256
    + 257 * 6,
}


def pair(spatial_dims: int, batch: int = 2, size: tuple[int, ...] | None = None) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 1, *(size or SHAPES[spatial_dims]), generator=source) for _ in range(2)]


def generator(spatial_dims: int, transform: str = "rigid") -> RegistrationGenerator:
    """A small one with a last layer that moves images by some mm."""
    network = RegistrationGenerator(spatial_dims, SHAPES[spatial_dims], transform, channels=4)
    with torch.no_grad():
        network.head.bias.copy_(torch.linspace(-0.2, 0.3, len(network.head.bias)))
        network.head.weight.fill_(0.02)
    return network


@pytest.mark.parametrize(("spatial_dims", "size", "outputs"), COUNTS)
def test_counts_and_shapes_are_those_by_hand(spatial_dims, size, outputs):
    network, critic = RegistrationGenerator(spatial_dims, size), RegistrationDiscriminator(spatial_dims, size)
    expected = COUNTS[spatial_dims, size, outputs]
    assert sum(p.numel() for p in network.parameters()) == expected
    assert sum(p.numel() for p in critic.parameters()) == expected - 257 * (outputs - 1)
    images = pair(spatial_dims, size=size)
    assert network(*images).shape == (2, outputs) and critic(*images).shape == (2, 1)


def test_the_published_net_has_30_5_million_parameters_at_96_cubed():
    with torch.device("meta"):
        network = RegistrationDiscriminator(3, 96)
    assert sum(p.numel() for p in network.parameters()) == 30_533_902 - 5 * 257


@pytest.mark.parametrize(("transform", "outputs"), [("translation", 3), ("similarity", 7), ("affine", 12)])
def test_the_family_sets_the_number_of_parameters(transform, outputs):
    assert RegistrationGenerator(3, 8, transform, channels=2)(*pair(3, size=(8, 8, 8))).shape == (2, outputs)


def test_convolutions_are_those_of_the_table():
    rows = [m for m in RegistrationGenerator(3, 8).modules() if isinstance(m, nn.Conv3d)]
    assert [(m.kernel_size[0], m.stride[0], m.dilation[0], m.out_channels) for m in rows] == [
        (3, 1, 2, 128),
        (3, 2, 1, 128),
        (3, 2, 1, 128),
        (3, 1, 1, 128),
        (3, 1, 1, 128),
        (3, 1, 1, 128),
        (1, 1, 1, 8),
    ]
    assert all(m.bias is not None for m in rows)


def test_forward_is_the_published_formula_written_out():
    network = generator(2)
    conv = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    fixed, moving = pair(2)
    x = torch.cat([fixed, moving], 1)
    for layer in conv[:3]:
        x = torch.relu(layer(x))
    x = torch.relu(conv[5](torch.relu(conv[4](torch.relu(conv[3](x))))) + x)
    x = torch.relu(conv[6](x)).flatten(1)
    x = network.head(torch.relu(network.features.linear(x)))
    scale = torch.tensor([12.0, 12.0, 0.15])
    torch.testing.assert_close(network(fixed, moving), x * scale)


def test_outputs_are_scaled_by_unit():
    assert output_scale("affine", 3).tolist() == pytest.approx([12.0] * 3 + [0.15] * 9)
    assert output_scale("homography", 2).tolist() == pytest.approx([12.0] * 2 + [0.15] * 4 + [0.15 / 80] * 2)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_untrained_generator_gives_the_identity(spatial_dims):
    network, grid = (
        RegistrationGenerator(spatial_dims, SHAPES[spatial_dims], channels=4),
        oblique_grid(SHAPES[spatial_dims]),
    )
    fixed, moving = pair(spatial_dims)
    assert torch.equal(network(fixed, moving), torch.zeros(2, 3 * spatial_dims - 3))
    identity = torch.eye(spatial_dims + 1, dtype=torch.float64).expand(2, -1, -1)
    assert torch.allclose(network.transform(fixed, moving, grid), identity, atol=1e-12)
    kept, moved = network.warp(fixed, moving, grid)
    assert kept is fixed and torch.allclose(moved, moving, atol=1e-5)


@pytest.mark.parametrize(("spatial_dims", "transform"), [(2, "rigid"), (3, "rigid"), (3, "affine"), (2, "homography")])
def test_transform_is_the_exponential_about_the_centre(spatial_dims, transform):
    network, grid = generator(spatial_dims, transform), oblique_grid(SHAPES[spatial_dims])
    fixed, moving = pair(spatial_dims)
    basis = generators(transform, spatial_dims).numpy()
    shift = np.eye(spatial_dims + 1)
    shift[:-1, -1] = grid.affine[:-1, :-1].numpy() @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:-1, -1].numpy()
    matrices = network.transform(fixed, moving, grid)
    assert matrices.dtype == torch.float64
    for parameters, matrix in zip(network(fixed, moving).detach().double().numpy(), matrices):
        expected = shift @ expm(np.einsum("t,tij->ij", parameters, basis)) @ np.linalg.inv(shift)
        np.testing.assert_allclose(matrix.detach().numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_warp_is_what_simpleitk_resamples(spatial_dims):
    network, grid = generator(spatial_dims), oblique_grid(SHAPES[spatial_dims])
    moving_grid = oblique_grid({2: (31, 17), 3: (21, 17, 25)}[spatial_dims], seed=1)
    fixed = pair(spatial_dims)[0]
    moving = torch.rand(2, 1, *moving_grid.shape, generator=torch.Generator().manual_seed(3))
    matrix = network.transform(fixed, moving, grid, moving_grid)[0].detach().numpy()
    _, moved = network.warp(fixed, moving, grid, moving_grid)
    flip = np.diag([-1.0, -1.0, 1.0][:spatial_dims])
    transform = sitk.AffineTransform(spatial_dims)
    transform.SetMatrix((flip @ matrix[:-1, :-1] @ flip).ravel().tolist())
    transform.SetTranslation((flip @ matrix[:-1, -1]).tolist())
    oracle = sitk.Resample(
        itk_image(moving[0, 0], moving_grid), itk_image(fixed[0, 0], grid), transform, sitk.sitkLinear
    )
    away = np.abs(array_of(oracle) - moved[0, 0].detach().numpy()) > 1e-4
    assert away.mean() < 1e-3 and (array_of(oracle) != 0).mean() > 0.2


def test_passes_compose_on_what_was_moved():
    network, grid = generator(2), oblique_grid(SHAPES[2])
    fixed, moving = pair(2)
    first = network.transform(fixed, moving, grid)
    second = network.transform(fixed, network.warp(fixed, moving, grid)[1], grid)
    torch.testing.assert_close(network.transform(fixed, moving, grid, passes=2), first @ second)
    assert not torch.allclose(first, first @ second)


def test_gradients_reach_every_parameter_through_the_moved_image():
    network, grid = generator(2), oblique_grid(SHAPES[2])
    fixed, moving = pair(2)
    network.warp(fixed, moving, grid)[1].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    assert float(network.head.weight.grad.abs().max()) > 0


def test_instance_norm_is_offered_for_the_generator():
    network = RegistrationGenerator(2, 32, channels=4, instance_norm=True)
    norms = [m for m in network.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert len(norms) == 6 and all(m.affine for m in norms)
    assert not any(isinstance(m, nn.InstanceNorm2d) for m in RegistrationDiscriminator(2, 32).modules())


def test_sigmoid_is_left_out_unless_asked_for():
    plain, bounded = (RegistrationDiscriminator(2, (19, 23), channels=4, sigmoid=s) for s in (False, True))
    bounded.load_state_dict(plain.state_dict())
    torch.testing.assert_close(bounded(*pair(2)), plain(*pair(2)).sigmoid())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 4, "image_size": 32}, "spatial_dims: 4"),
        ({"spatial_dims": 3, "image_size": (32, 32)}, r"image_size: \(32, 32\) came; 3"),
        ({"spatial_dims": 2, "image_size": (0, 4)}, "image_size"),
        ({"spatial_dims": 2, "image_size": 8, "transform": "rigd"}, "did you mean 'rigid'"),
        ({"spatial_dims": 3, "image_size": 8, "transform": "homography"}, "does not exist in 3D"),
        ({"spatial_dims": 2, "image_size": 8, "channels": 0}, "channels: 0"),
        ({"spatial_dims": 2, "image_size": 4, "instance_norm": True}, "one voxel"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        RegistrationGenerator(**arguments)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 1, 32, 32), (1, 1, 32, 32)), r"spatial shape \(32, 32\) came; this network is made for \(19, 23\)"),
        (((1, 1, 9, 9, 9), (1, 1, 9, 9, 9)), "made for"),
        (((1, 1, 19, 23), (1, 1, 23, 19)), "moving: shape"),
        (((1, 2, 19, 23), (1, 1, 19, 23)), "fixed: shape"),
        (((1, 1, 19, 23), (19, 23)), "moving: shape"),
    ],
)
def test_images_that_do_not_fit_are_refused(shapes, message):
    images = [torch.zeros(shape) for shape in shapes]
    for network in (RegistrationGenerator(2, (19, 23), channels=2), RegistrationDiscriminator(2, (19, 23), channels=2)):
        with pytest.raises(InputError, match=message):
            network(*images)


def test_grids_and_passes_that_do_not_fit_are_refused():
    network = generator(2)
    with pytest.raises(InputError, match="passes: 0"):
        network.transform(*pair(2), oblique_grid(SHAPES[2]), passes=0)
    with pytest.raises(InputError, match="fixed: shape"):
        network.transform(*pair(2), oblique_grid((23, 19)))
    with pytest.raises(InputError, match="image: shape"):
        network.warp(*pair(2), oblique_grid(SHAPES[2]), oblique_grid((9, 9)))
