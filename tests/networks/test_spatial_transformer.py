"""SpatialTransformer against SimpleITK.Resample, dense twins in NumPy, closed forms and finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.networks.spatial_transformer import KERNELS, Gaussian, SpatialTransformer
from medmi.spatial.linear import linear_matrix
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, array_of, itk_image, oblique_grid

ITK_KERNELS = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "gaussian": sitk.sitkGaussian}
# SimpleITK's error function is good to seven digits; the dense twin below is exact.
ITK_ERROR = {"nearest": 0.0, "linear": 1e-8, "gaussian": 1e-6}
MOVING = {2: (21, 17), 3: (15, 21, 17)}


def grids(d: int) -> tuple[Grid, Grid]:
    """Unlike shapes, spacings, directions (one left-handed) and origins, overlapping in part."""
    return oblique_grid(SHAPES[d], seed=2), oblique_grid(MOVING[d], seed=1)


def small_grids(d: int) -> tuple[Grid, Grid]:
    return oblique_grid((4, 3, 2)[:d], seed=2), oblique_grid((5, 6, 4)[:d], seed=1)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def affines(d: int, batch: int = 2) -> torch.Tensor:
    count = {2: 6, 3: 12}[d]
    scale = torch.tensor([1.5] * d + [0.15] * (count - d), dtype=torch.float64)
    return linear_matrix(noise(batch, count, seed=d) * scale, "affine", d)


def homography() -> torch.Tensor:
    parameters = torch.tensor([1.0, -2.0, 0.2, 0.05, 0.1, -0.1, 0.02, -0.015], dtype=torch.float64)
    return linear_matrix(parameters[None], "homography", 2)


def itk_affine(matrix: torch.Tensor) -> sitk.Transform:
    d = matrix.shape[-1] - 1
    flip = np.diag([*[-1.0, -1.0, 1.0][:d], 1.0])
    lps = flip @ matrix.numpy() @ flip
    transform = sitk.AffineTransform(d)
    transform.SetMatrix(lps[:d, :d].ravel().tolist())
    transform.SetTranslation(lps[:d, d].tolist())
    return transform


def itk_field(displacement: torch.Tensor, grid: Grid) -> sitk.Transform:
    signs = [-1.0, -1.0, 1.0]
    components = [itk_image(sign * component.numpy(), grid) for sign, component in zip(signs, displacement)]
    return sitk.DisplacementFieldTransform(sitk.Cast(sitk.Compose(components), sitk.sitkVectorFloat64))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_matrices_resample_as_simpleitk_does(d, kernel):
    fixed, moving = grids(d)
    image, matrices = noise(2, 2, *moving.shape), affines(d)
    found = SpatialTransformer(fixed, moving, kernel)(image, matrices)
    assert found.shape == (2, 2, *fixed.shape) and found.dtype == torch.float64
    reference = itk_image(np.zeros(fixed.shape), fixed)
    for channels, matrix, values in zip(image, matrices, found):
        for channel, value in zip(channels, values):
            itk = sitk.Resample(itk_image(channel, moving), reference, itk_affine(matrix), ITK_KERNELS[kernel], 0.0)
            np.testing.assert_allclose(value, array_of(itk), atol=ITK_ERROR[kernel])
    covered = float((found != 0).double().mean())
    assert 0.2 < covered < 0.98


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_displacements_resample_as_simpleitk_does(d, kernel):
    fixed, moving = grids(d)
    image, displacement = noise(2, 1, *moving.shape), noise(2, d, *fixed.shape, seed=1)
    found = SpatialTransformer(fixed, moving, kernel)(image, displacement)
    reference = itk_image(np.zeros(fixed.shape), fixed)
    for channels, u, value in zip(image, displacement, found):
        itk = sitk.Resample(itk_image(channels[0], moving), reference, itk_field(u, fixed), ITK_KERNELS[kernel], 0.0)
        np.testing.assert_allclose(value[0], array_of(itk), atol=ITK_ERROR[kernel])


def test_homography_divides_as_a_dense_twin_does():
    fixed, moving = grids(2)
    image, matrix = noise(1, 1, *moving.shape), homography()
    found = SpatialTransformer(fixed, moving)(image, matrix)[0, 0]
    expected = np.zeros(fixed.shape)
    for place in itertools.product(*map(range, fixed.shape)):
        world = matrix[0].numpy() @ fixed.affine.numpy() @ [*place, 1]
        index = np.linalg.solve(moving.affine.numpy(), world / world[2])[:2]
        if all(-0.5 <= i < s - 0.5 for i, s in zip(index, moving.shape)):
            expected[place] = scipy.ndimage.map_coordinates(
                image[0, 0].numpy(), index[:, None], order=1, mode="nearest"
            )[0]
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert (expected != 0).mean() > 0.3


def test_factor_of_a_homography_means_nothing_and_the_horizon_is_zero():
    fixed, moving = grids(2)
    image, matrix = noise(1, 1, *moving.shape), homography()
    transformer = SpatialTransformer(fixed, moving)
    torch.testing.assert_close(transformer(image, matrix), transformer(image, -7 * matrix), rtol=0, atol=1e-12)
    lattice = Grid((5, 4), torch.eye(3))
    horizon = torch.eye(3, dtype=torch.float64)[None]
    horizon[0, 2] = torch.tensor([1.0, 0.0, -2.0])
    leaf = horizon.requires_grad_()
    out = SpatialTransformer(lattice, lattice)(torch.ones(1, 1, 5, 4, dtype=torch.float64), leaf)
    out.sum().backward()
    assert out[0, 0, 2].abs().sum() == 0 and leaf.grad.isfinite().all()


@pytest.mark.parametrize("gaussian", [Gaussian(1.3, 2.5), Gaussian(0.4, 3.0)])
def test_gaussian_of_any_width_is_its_dense_twin(gaussian):
    fixed, moving = small_grids(3)
    image, matrix = noise(1, 1, *moving.shape), affines(3, 1)
    found = SpatialTransformer(fixed, moving, "gaussian", gaussian)(image, matrix)[0, 0]
    to_index = np.linalg.inv(moving.affine.numpy()) @ matrix[0].numpy() @ fixed.affine.numpy()
    reach = gaussian.sigma * gaussian.cutoff
    for place in itertools.product(*map(range, fixed.shape)):
        index = (to_index @ [*place, 1])[:3]
        if not all(-0.5 <= i < s - 0.5 for i, s in zip(index, moving.shape)):
            assert found[place] == 0
            continue
        total = weights = 0.0
        low = [max(0, int(np.floor(i + 0.5 - reach))) for i in index]
        high = [min(s, int(np.ceil(i + 0.5 + reach))) for i, s in zip(index, moving.shape)]
        spans = [range(a, b) for a, b in zip(low, high)]
        for voxel in itertools.product(*spans):
            edges = (np.array(voxel) - index) / (2**0.5 * gaussian.sigma)
            half = 0.5 / (2**0.5 * gaussian.sigma)
            weight = np.prod(scipy.special.erf(edges + half) - scipy.special.erf(edges - half))
            total, weights = total + weight * image[0, 0][voxel].item(), weights + weight
        assert found[place].item() == pytest.approx(total / weights, abs=1e-10)


@pytest.mark.parametrize("kernel", ["nearest", "linear"])
def test_identity_on_one_grid_gives_the_image_back(kernel):
    grid = oblique_grid((19, 23, 29))
    image = noise(1, 2, *grid.shape).float()
    torch.testing.assert_close(
        SpatialTransformer(grid, grid, kernel)(image, torch.eye(4)[None]), image, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_constant_stays_constant_inside_and_zero_outside(kernel):
    fixed, moving = grids(3)
    out = SpatialTransformer(fixed, moving, kernel)(torch.full((1, 1, *moving.shape), 3.0), affines(3, 1))
    inside = out != 0
    assert 0 < inside.double().mean() < 1 and float((out[inside] - 3).abs().max()) < 1e-5


def test_ramp_follows_the_transform_and_its_slope_is_the_gradient():
    fixed, moving = grids(3)
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    ramp = (moving.points() @ slope)[None, None]
    matrix = affines(3, 1).requires_grad_()
    out = SpatialTransformer(fixed, moving)(ramp, matrix)[0, 0]
    mapped = fixed.points() @ matrix[0, :3, :3].T + matrix[0, :3, 3]
    inside = moving.contains(mapped)
    torch.testing.assert_close(out[inside], (mapped @ slope)[inside], rtol=0, atol=1e-10)
    (found,) = torch.autograd.grad(out[inside].sum(), matrix)
    torch.testing.assert_close(found[0, :3, 3], slope * inside.sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_gradients_are_finite_differences(d, kernel):
    fixed, moving = oblique_grid((3, 2, 2)[:d], seed=2), oblique_grid((4, 3, 2)[:d], seed=1)
    transformer = SpatialTransformer(fixed, moving, kernel, Gaussian(0.5, 2.0))
    image = noise(1, 1, *moving.shape).requires_grad_()
    between = moving.centre - fixed.centre
    matrix = linear_matrix(0.1 * noise(1, {2: 6, 3: 12}[d], seed=d), "affine", d, fixed.centre)
    matrix[:, :d, d] += between
    displacement = 0.3 * noise(1, d, *fixed.shape, seed=3) + between.view(d, *[1] * d)
    for transform in (matrix.requires_grad_(), displacement.requires_grad_()):
        assert float((transformer(image, transform) != 0).double().mean()) > 0.3
    assert torch.autograd.gradcheck(transformer, (image, matrix), eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(transformer, (image, displacement), eps=1e-7, atol=1e-5)


def test_gradient_of_a_homography_is_the_finite_difference():
    fixed, moving = small_grids(2)
    matrix = homography().requires_grad_()
    image = noise(1, 1, *moving.shape).requires_grad_()
    assert torch.autograd.gradcheck(SpatialTransformer(fixed, moving), (image, matrix), eps=1e-7, atol=1e-5)


def test_nearest_has_a_gradient_to_the_image_alone():
    fixed, moving = small_grids(2)
    image = noise(2, 1, *moving.shape).requires_grad_()
    matrices = affines(2).requires_grad_()
    out = SpatialTransformer(fixed, moving, "nearest")(image, matrices)
    found = torch.autograd.grad(out.sum(), (image, matrices), allow_unused=True)
    assert found[1] is None and found[0].sum() == (out != 0).sum()


def test_nearest_rounds_halves_up():
    grid = Grid((4, 3), torch.eye(3))
    image = torch.arange(12.0).reshape(1, 1, 4, 3)
    shift = torch.eye(3)[None]
    shift[0, 0, 2] = 0.5
    out = SpatialTransformer(grid, grid, "nearest")(image, shift)
    torch.testing.assert_close(out[0, 0], torch.cat([image[0, 0, 1:], torch.zeros(1, 3)]))


def test_voxels_outside_do_not_matter_even_if_nan():
    fixed, moving = grids(2)
    image = noise(1, 1, *moving.shape)
    image[0, 0, 0, 0] = torch.nan
    far = torch.eye(3, dtype=torch.float64)[None]
    far[0, :2, 2] = 1e4
    leaf = far.requires_grad_()
    out = SpatialTransformer(fixed, moving)(image, leaf)
    out.sum().backward()
    assert out.abs().sum() == 0 and leaf.grad.abs().sum() == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_precision_of_voxels_and_of_geometry(kernel):
    fixed, moving = grids(3)
    transformer = SpatialTransformer(fixed, moving, kernel)
    image, matrix = noise(1, 1, *moving.shape).float(), affines(3, 1)
    exact = transformer(image.double(), matrix)
    single = transformer(image, matrix)
    assert single.dtype == torch.float32 and float((single - exact).abs().max()) < 1e-4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transformer(image, matrix), single)
    for given in (torch.float16, torch.int16, torch.bool):
        assert transformer((image > 0).to(given), matrix).dtype == torch.float32


def test_metatensors_give_plain_tensors_and_inputs_are_left_alone():
    fixed, moving = grids(2)
    image = MetaTensor(noise(1, 1, *moving.shape), affine=torch.eye(4))
    matrix = affines(2, 1)
    kept = image.clone(), matrix.clone()
    out = SpatialTransformer(fixed, moving)(image, matrix)
    assert type(out) is torch.Tensor and torch.equal(image, kept[0]) and torch.equal(matrix, kept[1])


@pytest.mark.parametrize("shape", [(2, 1, 19, 23), (2, 21, 17), (2, 1, 21, 17, 3)])
def test_images_on_another_grid_are_refused(shape):
    fixed, moving = grids(2)
    with pytest.raises(InputError, match=r"image: shape .*\(B, C, 21, 17\) on the moving grid is asked"):
        SpatialTransformer(fixed, moving)(torch.zeros(shape), affines(2))


@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 4, 4), (3, 3), (2, 2, 21, 17), (2, 3, 19, 23)])
def test_transforms_of_another_shape_are_refused(shape):
    fixed, moving = grids(2)
    with pytest.raises(InputError, match=r"transform: shape .*\(2, 3, 3\) or displacements \(2, 2, 19, 23\)"):
        SpatialTransformer(fixed, moving)(torch.zeros(2, 1, 21, 17), torch.zeros(shape))


def test_bad_options_are_refused():
    fixed, moving = grids(2)
    with pytest.raises(InputError, match="kernel: unknown value 'liner'; did you mean 'linear'"):
        SpatialTransformer(fixed, moving, "liner")
    with pytest.raises(InputError, match="grids: 2D and 3D"):
        SpatialTransformer(fixed, grids(3)[1])
    for gaussian in (Gaussian(0.0), Gaussian(1.0, -1.0), Gaussian(float("nan"))):
        with pytest.raises(InputError, match=r"gaussian: .*a positive width and cut-off are asked"):
            SpatialTransformer(fixed, moving, "gaussian", gaussian)
