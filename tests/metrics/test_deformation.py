"""Jacobian determinants against closed forms and SimpleITK, inverse consistency against known errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.frames import flip_points
from medmi.grid import Grid
from medmi.metrics import (
    InverseConsistencyMetric,
    JacobianDeterminantMetric,
    compute_inverse_consistency,
    compute_jacobian_determinant,
)
from medmi.spatial.linear import LinearTransform
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, array_of, itk_image, oblique_grid


def field(grid: Grid, map_of) -> torch.Tensor:
    """Displacement ``(1, d, *shape)`` of a map of world points."""
    x = grid.points()
    return (map_of(x) - x).movedim(-1, 0)[None]


def matrix(d: int) -> torch.Tensor:
    return torch.eye(d, dtype=torch.float64) + 0.3 * torch.randn(
        d, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64
    )


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_linear_map_has_the_determinant_of_its_matrix_everywhere(d, seed):
    grid = oblique_grid(SHAPES[d], seed)
    m = matrix(d)
    found = compute_jacobian_determinant(field(grid, lambda x: x @ m.T + 7), grid.affine)
    assert found.shape == (1, 1, *grid.shape)
    np.testing.assert_allclose(found, np.linalg.det(m), rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_smooth_map_has_its_analytic_determinant_to_second_order(d):
    wave = torch.tensor([0.11, 0.07, 0.05], dtype=torch.float64)[:d]

    def bend(x: torch.Tensor) -> torch.Tensor:
        return x + 2 * torch.sin(x @ wave)[..., None]

    errors = []
    for refine in (1, 2):
        grid = oblique_grid(SHAPES[d])
        affine = grid.affine.clone()
        affine[:d, :d] /= refine
        fine = Grid([refine * (s - 1) + 1 for s in grid.shape], affine)
        exact = 1 + 2 * torch.cos(fine.points() @ wave) * wave.sum()
        found = compute_jacobian_determinant(field(fine, bend), fine.affine)[0, 0]
        inner = tuple(slice(1, -1) for _ in range(d))
        errors.append(float((found - exact)[inner].abs().max()))
    assert errors[0] < 1e-2 and errors[0] / errors[1] > 3.5


@pytest.mark.parametrize("d", [2, 3])
def test_simpleitk_agrees_where_the_direction_that_it_leaves_out_is_the_identity(d):
    lps_spacing = torch.tensor([-0.8, -1.1, 1.9, 1.0], dtype=torch.float64)[[*range(d), 3]]
    grid = Grid(SHAPES[d], torch.diag(lps_spacing))
    u = torch.randn(1, d, *SHAPES[d], generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.2
    vectors = flip_points(u[0].movedim(0, -1)).movedim(-1, 0)
    image = sitk.Compose([itk_image(component, grid) for component in vectors])
    assert image.GetDirection() == tuple(np.eye(d).ravel())
    expected = array_of(sitk.DisplacementFieldJacobianDeterminant(image))
    inner = tuple(slice(1, -1) for _ in range(d))
    found = compute_jacobian_determinant(u, grid.affine)[0, 0]
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-5, atol=1e-6)


def test_samples_have_their_own_affines():
    grids = [oblique_grid((5, 6, 7), seed) for seed in (0, 1)]
    m = matrix(3)
    u = torch.cat([field(grid, lambda x: x @ m.T) for grid in grids])
    found = compute_jacobian_determinant(u, torch.stack([grid.affine for grid in grids]))
    np.testing.assert_allclose(found, np.linalg.det(m), rtol=1e-12)


@pytest.mark.parametrize(("given", "kept"), [(torch.float16, torch.float32), (torch.float32, torch.float32)])
def test_half_is_widened_and_float32_kept(given, kept):
    found = compute_jacobian_determinant(torch.zeros(1, 2, 4, 5, dtype=given), torch.eye(3))
    assert found.dtype == kept and found.unique().tolist() == [1.0]


def test_gradient_is_the_finite_difference():
    u = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    affine = oblique_grid((3, 4)).affine
    assert torch.autograd.gradcheck(lambda v: compute_jacobian_determinant(v, affine), (u,))


def test_fold_is_found_where_it_is():
    grid = Grid((8, 5), torch.diag(torch.tensor([1.0, 2.0, 1.0])))
    metric = JacobianDeterminantMetric()
    # The back half of the first axis runs backwards: determinant -1 on 3 of 8 rows, and 0 in between on none.
    path = torch.tensor([0.0, 1, 2, 3, 4, 3, 2, 1]).double()
    folded = field(grid, lambda x: torch.stack([path[:, None].expand(8, 5), x[..., 1]], -1))
    metric(folded, grid.affine[None])
    expected = (np.gradient(path.numpy()) <= 0).mean()
    assert metric.aggregate().item() == pytest.approx(expected) and expected == 0.5
    assert compute_jacobian_determinant(folded, grid.affine)[0, 0, -1].unique().tolist() == [-1.0]


@pytest.mark.parametrize(
    ("statistic", "numpy"),
    [
        ("folding", lambda j: (j <= 0).mean()),
        ("min", np.min),
        ("max", np.max),
        ("mean", np.mean),
        ("log_std", lambda j: np.log(np.maximum(j, 1e-9)).std(ddof=1)),
    ],
)
def test_statistics_over_two_samples(statistic, numpy):
    grid = oblique_grid((5, 6, 7))
    u = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    metric = JacobianDeterminantMetric(statistic, reduction="none")
    metric(u, grid.affine.expand(2, 4, 4))
    expected = [[numpy(compute_jacobian_determinant(one[None], grid.affine).numpy())] for one in u]
    np.testing.assert_allclose(metric.aggregate(), expected)


def test_uniform_scaling_has_no_spread():
    grid = oblique_grid((5, 6, 7))
    metric = JacobianDeterminantMetric("log_std")
    metric([field(grid, lambda x: 1.3 * x)[0]], [grid.affine])
    assert metric.aggregate().item() < 1e-12


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 2, 4, 5, 6), (2, 4), (1, 2, 1, 5)])
def test_fields_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"displacement: shape .*\(B, d, \*spatial\) is asked"):
        compute_jacobian_determinant(torch.zeros(shape), torch.eye(4))


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (3,)])
def test_affines_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"affine: shape .* \(3, 3\) or \(1, 3, 3\) is asked"):
        compute_jacobian_determinant(torch.zeros(1, 2, 4, 5), torch.ones(shape))


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_affines_without_inverse_are_refused(value):
    with pytest.raises(InputError, match="affine: singular or not finite"):
        compute_jacobian_determinant(torch.zeros(1, 2, 4, 5), torch.diag(torch.tensor([value, 1.0, 1.0])))


def test_fields_that_are_not_finite_are_refused():
    u = torch.zeros(1, 2, 4, 5)
    u[0, 0, 1, 1] = torch.nan
    with pytest.raises(InputError, match="displacement: values that are not finite"):
        compute_jacobian_determinant(u, torch.eye(3))


def test_missing_affine_and_unknown_statistic_are_refused():
    with pytest.raises(InputError, match="y: no affine came"):
        JacobianDeterminantMetric()(torch.zeros(1, 2, 4, 5))
    with pytest.raises(InputError, match="statistic: unknown value 'folds'"):
        JacobianDeterminantMetric("folds")


@pytest.mark.parametrize(("family", "count"), [("rigid", 6), ("affine", 12)])
def test_transform_and_its_inverse_are_consistent(family, count):
    parameters = torch.randn(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64) * 0.3
    transform = LinearTransform.from_parameters(parameters, family)
    points = oblique_grid((4, 5, 6)).points() * 10
    errors = compute_inverse_consistency(transform.points, transform.inverse().points, points)
    assert errors.shape == (4, 5, 6) and float(errors.max()) < 1e-9


@pytest.mark.parametrize("d", [2, 3])
def test_metric_gives_the_known_error_and_leaves_out_what_has_left_the_moving_grid(d):
    fixed, moving = oblique_grid(SHAPES[d]), oblique_grid(tuple(s + 3 for s in SHAPES[d]), seed=2)
    shift = torch.tensor([5.0, -4.0, 3.0], dtype=torch.float64)[:d]
    forward = field(fixed, lambda x: x + shift)
    backward = field(moving, lambda x: x - shift + 0.25)
    for statistic in ("mean", "median", "p95", "max", "rms"):
        metric = InverseConsistencyMetric(fixed, moving, statistic)
        metric(forward, backward)
        assert metric.aggregate().item() == pytest.approx(0.25 * d**0.5, rel=1e-6)
    assert not moving.contains(fixed.points() + shift).all()


def test_metric_of_two_samples_or_lists():
    fixed, moving = oblique_grid((6, 7)), oblique_grid((12, 13), seed=2)
    forward = torch.cat([field(fixed, lambda x: x), field(fixed, lambda x: x)])
    backward = torch.cat([field(moving, lambda x: x), field(moving, lambda x: x + torch.tensor([1.0, 0.0]))])
    for arguments in ((forward, backward), (list(forward), list(backward))):
        metric = InverseConsistencyMetric(fixed, moving, reduction="none")
        metric(*arguments)
        np.testing.assert_allclose(metric.aggregate(), [[0.0], [1.0]], atol=1e-9)


def test_everything_outside_is_nan_and_left_out():
    fixed, moving = oblique_grid((6, 7)), oblique_grid((6, 7), seed=2)
    metric = InverseConsistencyMetric(fixed, moving, get_not_nans=True)
    metric(field(fixed, lambda x: x + 500), field(moving, lambda x: x))
    assert metric.aggregate()[1].item() == 0


def test_bad_fields_grids_and_options_are_refused():
    fixed, moving = oblique_grid((6, 7)), oblique_grid((5, 8), seed=2)
    metric = InverseConsistencyMetric(fixed, moving)
    with pytest.raises(InputError, match=r"displacement has shape \(6, 7, 2\)"):
        metric(torch.zeros(1, 2, 6, 7), torch.zeros(1, 2, 6, 7))
    with pytest.raises(InputError, match="y: backward displacements"):
        metric(torch.zeros(2, 2, 6, 7), torch.zeros(1, 2, 5, 8))
    with pytest.raises(InputError, match="y: backward displacements"):
        metric(torch.zeros(2, 2, 6, 7))
    with pytest.raises(InputError, match="grids: 2D and 3D"):
        InverseConsistencyMetric(fixed, oblique_grid((4, 3, 5)))
    with pytest.raises(InputError, match="statistic: unknown value 'folding'"):
        InverseConsistencyMetric(fixed, moving, "folding")
