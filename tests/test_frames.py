"""RAS and LPS against SimpleITK: image geometry, points and transforms."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.frames import flip, flip_affine, flip_matrix, flip_points
from tests.oracles.grids import itk_image, oblique_grid

SHAPES = [(4, 3), (4, 3, 5)]


def points(d: int) -> torch.Tensor:
    return torch.randn(7, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64) * 30


@pytest.mark.parametrize(("d", "signs"), [(2, [-1, -1, 1]), (3, [-1, -1, 1, 1])])
def test_flip_is_diagonal_and_its_own_inverse(d, signs):
    assert flip(d).dtype == torch.float64
    assert torch.equal(flip(d), torch.diag(torch.tensor(signs, dtype=torch.float64)))
    assert torch.equal(flip(d) @ flip(d), torch.eye(d + 1, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_flipped_affine_is_the_geometry_simpleitk_holds(shape, seed):
    grid = oblique_grid(shape, seed)
    d = len(shape)
    image = itk_image(np.zeros(shape, np.float32), grid)
    lps = flip_affine(grid.affine).numpy()
    expected = np.array(image.GetDirection()).reshape(d, d) * image.GetSpacing()
    np.testing.assert_allclose(lps[:d, :d], expected, atol=1e-12)
    np.testing.assert_allclose(lps[:d, d], image.GetOrigin(), atol=1e-12)
    assert lps[d].tolist() == [0.0] * d + [1.0]


@pytest.mark.parametrize("d", [2, 3])
def test_flipped_matrix_moves_flipped_points_as_simpleitk_does(d):
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d] += torch.randn(d, d + 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 0.3
    transform = sitk.AffineTransform(d)
    lps = flip_matrix(matrix)
    transform.SetMatrix(lps[:d, :d].flatten().tolist())
    transform.SetTranslation(lps[:d, d].tolist())
    ras = points(d)
    moved = [transform.TransformPoint(p) for p in flip_points(ras).tolist()]
    expected = ras @ matrix[:d, :d].T + matrix[:d, d]
    np.testing.assert_allclose(flip_points(torch.tensor(moved, dtype=torch.float64)), expected, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_all_flips_undo_themselves(d):
    matrix = torch.randn(d + 1, d + 1, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
    assert torch.equal(flip_matrix(flip_matrix(matrix)), matrix)
    assert torch.equal(flip_affine(flip_affine(matrix)), matrix)
    assert torch.equal(flip_points(flip_points(points(d))), points(d))


def test_third_axis_stays_and_points_keep_shape_and_precision():
    given = torch.ones(2, 5, 3, dtype=torch.float32)
    flipped = flip_points(given)
    assert flipped.dtype == torch.float32 and flipped.shape == given.shape
    assert flipped[1, 4].tolist() == [-1.0, -1.0, 1.0]
    assert given.min() == 1


def test_float32_matrices_become_float64():
    assert flip_affine(torch.eye(4)).dtype == flip_matrix(torch.eye(3)).dtype == torch.float64
