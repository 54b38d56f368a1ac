"""Linear transforms: the contract for each family, derivatives of the matrix, exact inverses, ITK classes, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.linalg import expm
from torch.autograd import gradcheck

from medmi.spatial import FAMILIES, LinearTransform, SpatialTransform, generators, linear_matrix
from medmi.spatial.linear import ITK_CLASSES, about, apply_projective, itk_linear
from medmi.validation import InputError
from tests.contracts.transforms import TransformContract, linear, parameters

CASES = [(f, d) for f, d in itertools.product(FAMILIES, (2, 3)) if d in FAMILIES[f].dims]
ITK_NAMES = {
    ("translation", 2): "TranslationTransform",
    ("translation", 3): "TranslationTransform",
    ("rigid", 2): "Euler2DTransform",
    ("rigid", 3): "VersorRigid3DTransform",
    ("similarity", 2): "Similarity2DTransform",
    ("similarity", 3): "Similarity3DTransform",
    ("affine", 2): "AffineTransform",
    ("affine", 3): "AffineTransform",
}


class LinearContract(TransformContract):
    """The contract of a row of the family table."""

    family: str

    def make(self, seed: int) -> SpatialTransform:
        return linear(self.family, self.spatial_dims, seed)

    def identity(self) -> SpatialTransform:
        return LinearTransform.from_parameters(0 * parameters(self.family, self.spatial_dims), self.family)

    def test_inverse_is_the_exponential_of_the_negative(self) -> None:
        p = parameters(self.family, self.spatial_dims)
        basis = generators(self.family, self.spatial_dims).numpy()
        inverse = LinearTransform.from_parameters(p, self.family).inverse()
        assert isinstance(inverse, LinearTransform) and inverse.family == self.family
        np.testing.assert_allclose(inverse.matrix, expm(-np.tensordot(p.numpy(), basis, 1)), rtol=0, atol=1e-12)


class TestTranslation2D(LinearContract):
    family, spatial_dims = "translation", 2


class TestTranslation3D(LinearContract):
    family, spatial_dims = "translation", 3


class TestRigid2D(LinearContract):
    family, spatial_dims = "rigid", 2


class TestRigid3D(LinearContract):
    family, spatial_dims = "rigid", 3


class TestSimilarity2D(LinearContract):
    family, spatial_dims = "similarity", 2


class TestSimilarity3D(LinearContract):
    family, spatial_dims = "similarity", 3


class TestAffine2D(LinearContract):
    family, spatial_dims = "affine", 2


class TestAffine3D(LinearContract):
    family, spatial_dims = "affine", 3


class TestHomography2D(LinearContract):
    family, spatial_dims, suffix, at_voxels = "homography", 2, ".h5", True


@pytest.mark.parametrize(("family", "d"), CASES)
def test_matrix_has_the_right_derivatives(family, d):
    centre = torch.tensor([3.0, -5.0, 7.0], dtype=torch.float64)[:d].requires_grad_()
    p = parameters(family, d).requires_grad_()
    assert gradcheck(lambda q, c: linear_matrix(q, family, d, c), (p, centre))
    assert gradcheck(lambda q: linear_matrix(q, family, d), (torch.zeros_like(p, requires_grad=True),))


@pytest.mark.parametrize(("family", "d"), CASES)
def test_batches_of_parameters_are_the_rows_one_by_one(family, d):
    batch = torch.stack([parameters(family, d, seed) for seed in range(6)]).reshape(2, 3, -1)
    matrices = linear_matrix(batch, family, d)
    assert matrices.shape == (2, 3, d + 1, d + 1) and matrices.dtype == torch.float64
    torch.testing.assert_close(matrices[1, 2], linear_matrix(batch[1, 2], family, d), rtol=0, atol=1e-13)


@pytest.mark.parametrize("d", [2, 3])
def test_centre_stays_in_place_without_translation(d):
    centre = torch.tensor([30.0, -50.0, 70.0], dtype=torch.float64)[:d]
    p = parameters("affine", d)
    p[:d] = 0
    moved = LinearTransform.from_parameters(p, "affine", centre).points(centre)
    torch.testing.assert_close(moved, centre, rtol=0, atol=1e-12)
    torch.testing.assert_close(about(centre) @ about(-centre), torch.eye(d + 1, dtype=torch.float64))


@pytest.mark.parametrize("d", [2, 3])
def test_rigid_matrices_are_rotations_and_similarities_scale_alike(d):
    rigid = linear("rigid", d).matrix[:-1, :-1]
    eye = torch.eye(d, dtype=torch.float64)
    torch.testing.assert_close(rigid.T @ rigid, eye, rtol=0, atol=1e-14)
    assert float(torch.linalg.det(rigid)) == pytest.approx(1)
    scaled = linear("similarity", d).matrix[:-1, :-1]
    log_scale = float(parameters("similarity", d)[-1])
    torch.testing.assert_close(scaled.T @ scaled, eye * np.exp(2 * log_scale), rtol=0, atol=1e-13)


def test_projective_points_are_opencvs_formula():
    matrix = torch.tensor([[1.1, 0.2, 3.0], [-0.1, 0.9, 5.0], [0.01, -0.02, 1.5]], dtype=torch.float64)
    x, y = 4.0, 7.0
    w = 0.01 * x - 0.02 * y + 1.5
    expected = [(1.1 * x + 0.2 * y + 3) / w, (-0.1 * x + 0.9 * y + 5) / w]
    np.testing.assert_allclose(apply_projective(matrix, torch.tensor([x, y])), expected, rtol=1e-14)
    np.testing.assert_allclose(LinearTransform(matrix, "homography").points(torch.tensor([x, y])), expected, rtol=1e-14)


@pytest.mark.parametrize(("case", "name"), ITK_NAMES.items())
def test_each_family_has_its_itk_class(case, name):
    exported = linear(*case).to_sitk().Downcast()
    assert type(exported).__name__ == name
    assert case in ITK_CLASSES or case[0] == "translation"


@pytest.mark.parametrize("d", [2, 3])
def test_the_matrix_of_an_itk_transform_is_set_with_no_centre(d):
    lps = torch.eye(d + 1, dtype=torch.float64)
    lps[:-1, -1] = torch.arange(1, d + 1)
    made = itk_linear(lps, "affine")
    assert isinstance(made, sitk.AffineTransform)
    assert made.GetCenter() == (0.0,) * d and made.GetTranslation() == tuple(range(1, d + 1))


@pytest.mark.parametrize("d", [2, 3])
def test_a_product_takes_the_larger_family(d):
    names = [family for family in FAMILIES if d in FAMILIES[family].dims]
    for a, b in itertools.product(names, names):
        product = linear(a, d).compose(linear(b, d, 1))
        assert isinstance(product, LinearTransform)
        assert product.family == names[max(names.index(a), names.index(b))]


def test_given_inverse_is_kept_and_a_missing_one_computed():
    matrix = linear("affine", 3).matrix
    torch.testing.assert_close(LinearTransform(matrix).inverse().matrix, torch.linalg.inv(matrix), rtol=0, atol=1e-12)
    known = LinearTransform(matrix, "affine", torch.linalg.inv(matrix) + 0)
    assert known.inverse().inverse_matrix is known.matrix


def test_matrix_follows_the_module():
    transform = linear("rigid", 3)
    again = LinearTransform(torch.eye(4), "rigid")
    again.load_state_dict(transform.state_dict())
    x = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(again.points(x), transform.points(x), rtol=0, atol=0)
    torch.testing.assert_close(again.inverse().points(transform.points(x)), x.double(), rtol=0, atol=1e-12)


def test_a_homography_asks_for_a_grid():
    with pytest.raises(InputError, match="to_sitk: ITK has no homography; pass the fixed grid"):
        linear("homography", 2).to_sitk()


@pytest.mark.parametrize(("shape", "said"), [((3, 4), r"\(3, 4\)"), ((5, 5), r"\(5, 5\)"), ((3,), r"\(3,\)")])
def test_other_shapes_are_refused(shape, said):
    with pytest.raises(InputError, match=f"LinearTransform: matrix has shape {said}"):
        LinearTransform(torch.ones(shape))


@pytest.mark.parametrize("entry", [0.0, float("nan"), float("inf")])
def test_singular_and_non_finite_matrices_are_refused(entry):
    matrix = torch.eye(4)
    matrix[1, 1] = entry
    with pytest.raises(InputError, match="LinearTransform: matrix is singular or not finite"):
        LinearTransform(matrix)


def test_a_perspective_row_needs_a_homography():
    matrix = torch.eye(3)
    matrix[2, 0] = 1e-3
    with pytest.raises(InputError, match=r"LinearTransform: last row .* of a homography"):
        LinearTransform(matrix, "affine")
    assert LinearTransform(matrix, "homography").spatial_dims == 2


def test_homography_is_2d_only():
    with pytest.raises(InputError, match="LinearTransform: 'homography' does not exist in 3D"):
        LinearTransform(torch.eye(4), "homography")


def test_unknown_family_and_wrong_counts_are_refused():
    with pytest.raises(InputError, match="family: unknown value 'rigd'; did you mean 'rigid'"):
        LinearTransform(torch.eye(4), "rigd")
    with pytest.raises(InputError, match="rigid in 3D has 6 of them, got 5"):
        linear_matrix(torch.zeros(5), "rigid", 3)
    with pytest.raises(InputError, match=r"rigid has \[3, 6\] of them in 2D and 3D, got 5"):
        LinearTransform.from_parameters(torch.zeros(5), "rigid")
    with pytest.raises(InputError, match="unknown value 'rigd'"):
        LinearTransform.from_parameters(torch.zeros(6), "rigd")
