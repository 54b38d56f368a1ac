"""matrix_exp against SciPy, torch, closed forms and finite differences; its backward against the published rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation

from medmi.spatial.generators import generators
from medmi.spatial.matrix_exp import frechet_derivative, matrix_exp
from medmi.validation import InputError


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def relative(found: torch.Tensor, expected: torch.Tensor | np.ndarray) -> float:
    """Largest difference over the largest expected value."""
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape
    return float((found.detach() - expected).abs().max() / expected.abs().max())


def skew(theta: float) -> torch.Tensor:
    return torch.tensor([[0.0, -theta], [theta, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [0.0, 1e-9, 0.1, 1.0, 10.0, 60.0])
def test_value_is_scipys_within_its_condition_number(n, size):
    a = draw(3, n, n, seed=n) * size / n
    condition = max(1.0, float(torch.linalg.matrix_norm(a).max()))
    assert relative(matrix_exp(a), scipy.linalg.expm(a.numpy())) < 1e-13 * condition


@pytest.mark.parametrize("size", [1e-6, 0.3, 2.0, 15.0])
def test_frechet_derivative_is_scipys(size):
    a, direction = draw(4, 4, seed=1) * size / 4, draw(4, 4, seed=2)
    expected = scipy.linalg.expm_frechet(a.numpy(), direction.numpy(), compute_expm=False)
    assert relative(frechet_derivative(a, direction), expected) < 1e-12


def test_frechet_derivative_of_one_matrix_along_many_directions():
    a, basis = draw(4, 4, seed=3) * 0.4, generators("rigid", 3)
    found = frechet_derivative(a, basis)
    for derivative, direction in zip(found, basis):
        assert relative(derivative, scipy.linalg.expm_frechet(a.numpy(), direction.numpy(), compute_expm=False)) < 1e-13


def test_frechet_derivative_is_linear_in_its_direction_however_long():
    a, direction = draw(3, 3, seed=4), draw(3, 3, seed=5)
    assert relative(frechet_derivative(a, direction * 1e12) / 1e12, frechet_derivative(a, direction)) < 1e-14


@pytest.mark.parametrize(("family", "d"), [("rigid", 2), ("rigid", 3), ("affine", 3), ("homography", 2)])
@pytest.mark.parametrize("size", [1e-3, 0.5, 3.0])
def test_gradient_is_torchs_to_1e_12(family, d, size):
    basis = generators(family, d)
    parameters = draw(50, len(basis), seed=6) * size
    weights = draw(50, d + 1, d + 1, seed=7)
    gradients = []
    for exponential in (matrix_exp, torch.linalg.matrix_exp):
        leaf = parameters.clone().requires_grad_()
        (exponential(torch.einsum("bt,tij->bij", leaf, basis)) * weights).sum().backward()
        gradients.append(leaf.grad)
    assert relative(gradients[0], gradients[1]) < 1e-12


@pytest.mark.parametrize("n", [2, 3, 4])
def test_gradient_is_the_finite_difference(n):
    assert torch.autograd.gradcheck(matrix_exp, ((draw(2, n, n, seed=8) * 0.7).requires_grad_(),))


def test_second_derivative_is_the_finite_difference():
    assert torch.autograd.gradgradcheck(matrix_exp, ((draw(3, 3, seed=8) * 0.7).requires_grad_(),))


def test_gradient_of_the_frechet_derivative_is_the_finite_difference():
    inputs = (draw(3, 3, seed=9).requires_grad_(), draw(3, 3, seed=10).requires_grad_())
    assert torch.autograd.gradcheck(frechet_derivative, inputs)


@pytest.mark.parametrize("theta", [0.05, 0.2167, 1.0])
def test_published_backward_errs_on_a_rotation_where_ours_does_not(theta):
    """Where all commute the exact gradient is exp(C)^T G, and G exp(C) is off by 2 |sin theta|: 43% at 12.4 degrees."""
    c = skew(theta).requires_grad_()
    target = skew(0.3)
    matrix = matrix_exp(c)
    matrix.backward(target)
    exact = matrix.detach().mT @ target
    published = target @ matrix.detach()
    assert relative(c.grad, exact) < 1e-14
    error = float((published - exact).norm() / exact.norm())
    assert error == pytest.approx(2 * abs(math.sin(theta)), rel=1e-12)
    assert theta != 0.2167 or error == pytest.approx(0.43, abs=0.001)


def test_translation_is_nilpotent_and_exact():
    a = torch.zeros(4, 4, dtype=torch.float64)
    a[:3, 3] = torch.tensor([120.0, -340.0, 77.0], dtype=torch.float64)
    assert torch.equal(matrix_exp(a), torch.eye(4, dtype=torch.float64) + a)


def test_nilpotent_of_third_order_is_its_polynomial():
    a = draw(4, 4, seed=11).triu(1) * 5
    expected = torch.eye(4, dtype=torch.float64) + a + a @ a / 2 + a @ a @ a / 6
    assert relative(matrix_exp(a), expected) < 1e-14


@pytest.mark.parametrize("theta", [math.pi, 2 * math.pi, 1000.0])
def test_rotation_by_pi_and_by_many_turns(theta):
    c, s = math.cos(theta), math.sin(theta)
    expected = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    assert relative(matrix_exp(skew(theta)), expected) < 1e-12


def test_rotation_by_pi_about_an_oblique_axis():
    vector = np.array([1.0, -2.0, 2.0]) / 3 * math.pi
    a = torch.einsum("t,tij->ij", torch.from_numpy(vector), generators("rigid", 3)[3:])
    assert relative(matrix_exp(a)[:3, :3], Rotation.from_rotvec(vector).as_matrix()) < 1e-14


def test_large_negative_norm_does_not_cancel():
    values = torch.tensor([-600.0, -40.0, 0.0, 5.0], dtype=torch.float64)
    found = matrix_exp(torch.diag(values)).diagonal()
    torch.testing.assert_close(found, values.exp(), rtol=1e-12, atol=0)


def test_inverse_is_the_exponential_of_the_negative():
    a = draw(5, 4, 4, seed=12)
    assert relative(matrix_exp(a) @ matrix_exp(-a), torch.eye(4, dtype=torch.float64).expand(5, 4, 4)) < 1e-12


@pytest.mark.parametrize("size", [1e-3, 1.0, 20.0])
def test_float32_agrees_with_float64(size):
    a = draw(6, 4, 4, seed=13, dtype=torch.float32) * size / 4
    single = a.clone().requires_grad_()
    double = a.double().requires_grad_()
    for leaf in (single, double):
        matrix_exp(leaf).sum().backward()
    assert matrix_exp(single).dtype == single.grad.dtype == torch.float32
    assert relative(matrix_exp(single).double(), matrix_exp(double).detach()) < 2e-6 * max(1, size)
    assert relative(single.grad.double(), double.grad) < 2e-6 * max(1, size)


def test_autocast_does_not_lower_the_precision():
    a = draw(3, 4, 4, seed=14, dtype=torch.float32).requires_grad_()
    plain = torch.autograd.grad(matrix_exp(a).square().sum(), a)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = matrix_exp(a)
        (inside,) = torch.autograd.grad(value.square().sum(), a)
    assert value.dtype == torch.float32 and torch.equal(value, matrix_exp(a)) and torch.equal(inside, plain)


def test_alone_is_the_same_as_in_a_batch_of_unlike_norms():
    a = draw(5, 4, 4, seed=15) * torch.tensor([1e-3, 0.3, 2.0, 30.0, 0.0], dtype=torch.float64)[:, None, None]
    together = matrix_exp(a)
    for one, value in zip(a, together):
        torch.testing.assert_close(matrix_exp(one), value, rtol=1e-15, atol=1e-300)


def test_leading_dimensions_strides_and_empty_batches():
    a = draw(2, 3, 4, 4, seed=16).mT
    assert relative(matrix_exp(a), scipy.linalg.expm(a.numpy())) < 1e-13
    assert matrix_exp(torch.zeros(0, 4, 4)).shape == (0, 4, 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_not_finite_stay_in_their_own_matrix(bad):
    a = draw(2, 3, 3, seed=17)
    expected = matrix_exp(a[1])
    a[0, 0, 1] = bad
    found = matrix_exp(a)
    assert not found[0].isfinite().all() and relative(found[1], expected) < 1e-14


def test_same_bits_twice():
    a = draw(100, 4, 4, seed=18)
    assert torch.equal(matrix_exp(a), matrix_exp(a))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 4, 3), (2, 0, 0)])
def test_matrices_that_are_not_square_are_refused(shape):
    with pytest.raises(InputError, match=r"matrix_exp: a has shape .*square"):
        matrix_exp(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.complex64])
def test_other_types_are_refused(dtype):
    with pytest.raises(InputError, match="give float64 or float32"):
        matrix_exp(torch.zeros(3, 3, dtype=dtype))


def test_direction_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"frechet_derivative: direction has shape \(2, 2\)"):
        frechet_derivative(torch.zeros(3, 3), torch.zeros(2, 2))


@pytest.mark.parametrize("size", [0.1, 1.0, 20.0])
def test_the_result_holds_no_more_memory_than_it_needs(size):
    a = torch.randn(50, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * size
    found = matrix_exp(a)
    assert found.untyped_storage().nbytes() == found.numel() * found.element_size()
