"""Generators against the groups they must span: closed forms, SciPy's rotations, membership, closed brackets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation

from medmi.spatial.generators import FAMILIES, generators
from medmi.validation import InputError

COUNTS = {
    ("translation", 2): 2,
    ("translation", 3): 3,
    ("rigid", 2): 3,
    ("rigid", 3): 6,
    ("similarity", 2): 4,
    ("similarity", 3): 7,
    ("affine", 2): 6,
    ("affine", 3): 12,
    ("homography", 2): 8,
}
CASES = list(COUNTS)


def member(family: str, d: int, parameters: np.ndarray) -> np.ndarray:
    """SciPy's exponential of the weighted generators."""
    return scipy.linalg.expm(np.tensordot(parameters, generators(family, d).numpy(), 1))


def unit(count: int, place: int, value: float) -> np.ndarray:
    out = np.zeros(count)
    out[place] = value
    return out


@pytest.mark.parametrize(("family", "d"), CASES)
def test_as_many_independent_float64_matrices_as_parameters(family, d):
    basis = generators(family, d)
    assert basis.shape == (COUNTS[family, d], d + 1, d + 1) and basis.dtype == torch.float64
    assert torch.linalg.matrix_rank(basis.flatten(1)) == COUNTS[family, d]


@pytest.mark.parametrize(("family", "d"), CASES)
def test_bracket_of_any_two_generators_stays_in_their_span(family, d):
    basis = generators(family, d)
    brackets = torch.stack([a @ b - b @ a for a in basis for b in basis]).flatten(1)
    together = torch.cat([basis.flatten(1), brackets])
    assert torch.linalg.matrix_rank(together) == len(basis)


@pytest.mark.parametrize("d", [2, 3])
def test_families_are_ordered_and_each_begins_with_the_smaller_ones(d):
    assert list(FAMILIES) == ["translation", "rigid", "similarity", "affine", "homography"]
    largest = generators("affine", d)
    for family in ("translation", "rigid", "similarity"):
        smaller = generators(family, d)
        assert torch.equal(smaller, largest[: len(smaller)])


@pytest.mark.parametrize("d", [2, 3])
def test_translations_move_by_their_parameters_in_mm(d):
    shift = np.array([3.0, -7.5, 11.25])[:d]
    expected = np.eye(d + 1)
    expected[:d, d] = shift
    np.testing.assert_allclose(member("translation", d, shift), expected, atol=1e-13)


def test_rotations_in_3d_are_the_rotation_vector():
    vector = np.array([0.3, -1.1, 0.7])
    found = member("rigid", 3, np.concatenate([np.zeros(3), vector]))
    np.testing.assert_allclose(found[:3, :3], Rotation.from_rotvec(vector).as_matrix(), atol=1e-13)


def test_rotation_in_2d_takes_x_towards_y():
    c, s = math.cos(0.4), math.sin(0.4)
    np.testing.assert_allclose(member("rigid", 2, unit(3, 2, 0.4)), [[c, -s, 0], [s, c, 0], [0, 0, 1]], atol=1e-14)


@pytest.mark.parametrize(("d", "place"), [(2, 3), (3, 6)])
def test_scale_is_the_exponential_of_its_parameter(d, place):
    found = member("similarity", d, unit(COUNTS["similarity", d], place, 0.25))
    np.testing.assert_allclose(found, np.diag([math.exp(0.25)] * d + [1.0]), atol=1e-14)


@pytest.mark.parametrize(("d", "places"), [(2, [4, 5]), (3, [7, 8, 9, 10, 11])])
def test_stretches_and_shears_keep_the_volume_and_turn_nothing(d, places):
    for place in places:
        found = member("affine", d, unit(COUNTS["affine", d], place, 0.3))
        assert np.linalg.det(found) == pytest.approx(1, abs=1e-13)
        np.testing.assert_allclose(found, found.T, atol=1e-14)


def test_shear_in_2d_is_hyperbolic():
    c, s = math.cosh(0.3), math.sinh(0.3)
    np.testing.assert_allclose(member("affine", 2, unit(6, 5, 0.3)), [[c, s, 0], [s, c, 0], [0, 0, 1]], atol=1e-14)


@pytest.mark.parametrize("d", [2, 3])
def test_any_parameters_give_a_member_of_the_group(d):
    rng = np.random.default_rng(4)
    for _ in range(5):
        rigid = member("rigid", d, rng.normal(size=COUNTS["rigid", d]))[:d, :d]
        np.testing.assert_allclose(rigid.T @ rigid, np.eye(d), atol=1e-12)
        assert np.linalg.det(rigid) == pytest.approx(1)
        similar = member("similarity", d, rng.normal(size=COUNTS["similarity", d]))[:d, :d]
        np.testing.assert_allclose(similar.T @ similar, np.eye(d) * np.linalg.det(similar) ** (2 / d), atol=1e-10)
        affine = member("affine", d, rng.normal(size=COUNTS["affine", d]))
        np.testing.assert_allclose(affine[d], [0] * d + [1], atol=1e-13)


def test_homography_has_determinant_one_and_zero_trace():
    assert generators("homography", 2).diagonal(dim1=1, dim2=2).sum(1).abs().max() < 1e-15
    parameters = np.random.default_rng(1).normal(size=8) * 0.3
    assert np.linalg.det(member("homography", 2, parameters)) == pytest.approx(1, abs=1e-12)


def test_homography_without_perspective_is_the_affine_map_up_to_a_factor():
    parameters = np.random.default_rng(2).normal(size=6) * 0.5
    affine = member("affine", 2, parameters)
    homography = member("homography", 2, np.concatenate([parameters, [0, 0]]))
    np.testing.assert_allclose(homography / homography[2, 2], affine, atol=1e-13)


def test_perspective_divides_by_one_plus_parameter_times_coordinate():
    found = member("homography", 2, unit(8, 6, 0.01)) @ [5.0, 3.0, 1.0]
    np.testing.assert_allclose(found[:2] / found[2], [5 / 1.05, 3 / 1.05], atol=1e-13)


def test_caller_may_write_on_the_answer():
    generators("rigid", 3).zero_()
    assert generators("rigid", 3).abs().sum() > 0


def test_unknown_family_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"transform: unknown value 'rigd'; did you mean 'rigid'\?"):
        generators("rigd", 3)


@pytest.mark.parametrize(("family", "d"), [("homography", 3), ("rigid", 4), ("affine", 1)])
def test_family_in_a_dimension_it_has_not_is_refused(family, d):
    with pytest.raises(InputError, match=rf"transform: '{family}' does not exist in {d}D"):
        generators(family, d)
