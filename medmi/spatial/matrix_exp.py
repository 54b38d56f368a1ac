"""Matrix exponential by scaling and squaring, with the exact adjoint of its derivative as backward.

Words: ``L(A, E)`` is the Frechet derivative, the change of ``exp(A)`` for a small change ``E`` of ``A``; its *adjoint*
takes the gradient ``G`` of a loss with respect to ``exp(A)`` to that with respect to ``A``, and equals ``L(A^T, G)``.

``exp(A) = (r(A / 2^s))^(2^s)`` with the Taylor polynomial ``r`` of degree 16, six products by Paterson and Stockmeyer's
scheme, and ``s`` for each matrix alone, so that a matrix gives the same in any batch. ``L`` comes from the identity

    exp([[A, E], [0, A]]) = [[exp(A), L(A, E)], [0, exp(A)]]

(Higham, Functions of Matrices, 2008, section 3.2 and chapter 10). ``L`` is linear in ``E``, so ``s`` is chosen by ``A``
alone.
"""

from __future__ import annotations

import math

import torch

from medmi.validation import InputError

# The 1-norm up to which the remainder of degree 17 and that of its derivative stay under half a unit of rounding.
_REACH = {torch.float64: 0.68, torch.float32: 2.0}
# 1 / k! for k = 4 j + i at [i - 1, j]: what multiplies A^i A^(4 j).
_TAYLOR = torch.tensor(
    [[1 / math.factorial(4 * j + i) for j in range(4)] for i in range(1, 5)], dtype=torch.float64
).view(4, 4, 1, 1, 1)


def matrix_exp(a: torch.Tensor) -> torch.Tensor:
    """``exp(A)`` of square matrices, differentiable any number of times.

    Args:
        a: ``(..., n, n)``, float64 or float32. Autocast does not lower its precision.

    Returns:
        ``(..., n, n)``. A matrix with values that are not finite gives such values and leaves the others alone.

    Raises:
        InputError: not square, or of another type.

    >>> turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]]) * torch.pi
    >>> matrix_exp(turn).round().int().tolist()
    [[-1, 0], [0, -1]]
    """
    _check(a)
    return _MatrixExp.apply(a, _squarings(a))


def frechet_derivative(a: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """``L(A, E)``, the derivative of ``exp`` at ``A`` along ``E``: ``exp(A + E) - exp(A)`` to first order.

    Args:
        a: ``(..., n, n)``, float64 or float32.
        direction: ``E``, ``(..., n, n)``, broadcast against ``a``.

    Returns:
        ``(..., n, n)``.

    Raises:
        InputError: not square, of another type, or the shapes differ in n.
    """
    _check(a)
    if direction.shape[-2:] != a.shape[-2:]:
        raise InputError(
            f"frechet_derivative: direction has shape {tuple(direction.shape)}, a {tuple(a.shape)}; one n is asked"
        )
    a, direction = torch.broadcast_tensors(a, direction)
    return _derivative(a, direction, _squarings(a))


def _check(a: torch.Tensor) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or not a.shape[-1]:
        raise InputError(f"matrix_exp: a has shape {tuple(a.shape)}; square matrices (..., n, n) are asked")
    if a.dtype not in _REACH:
        raise InputError(f"matrix_exp: a is of type {a.dtype}; give float64 or float32")


def _squarings(a: torch.Tensor) -> torch.Tensor:
    """How often each matrix is halved, ``(...)`` int32: the least that brings its 1-norm within reach."""
    norm = torch.linalg.vector_norm(a.detach(), 1, -2).amax(-1)
    # The exponent of a value that is not finite is unspecified: a bound ends the loop, the result is not finite anyway.
    return torch.frexp(norm / _REACH[a.dtype]).exponent.clamp(0, 1100)


def _derivative(a: torch.Tensor, direction: torch.Tensor, squarings: torch.Tensor) -> torch.Tensor:
    """Upper right block of ``exp([[A, E], [0, A]])``."""
    n = a.shape[-1]
    top, bottom = torch.cat([a, direction], -1), torch.cat([torch.zeros_like(a), a], -1)
    return _MatrixExp.apply(torch.cat([top, bottom], -2), squarings)[..., :n, n:]


class _MatrixExp(torch.autograd.Function):
    """``exp`` with a given number of squarings; its backward calls itself on the block matrix, so any order exists."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, a: torch.Tensor, squarings: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, squarings)
        if not a.numel():
            return torch.empty_like(a)
        with torch.autocast(a.device.type, enabled=False):
            return _scale_and_square(a.reshape(-1, *a.shape[-2:]), squarings.reshape(-1)).view(a.shape)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        a, squarings = ctx.saved_tensors  # type: ignore[attr-defined]
        return _derivative(a.mT, grad, squarings), None


def _scale_and_square(a: torch.Tensor, squarings: torch.Tensor) -> torch.Tensor:
    """``exp`` of ``(N, n, n)`` matrices, each halved and squared as often as its own count says."""
    fewest, most = (int(end) for end in squarings.aminmax())
    x = _polynomial(a * torch.exp2(-squarings.to(a.dtype))[:, None, None] if most else a)
    for step in range(most):
        if step < fewest:
            x = torch.bmm(x, x)
            continue
        left = torch.nonzero(squarings > step).squeeze(-1)
        some = x.index_select(0, left)
        x.index_copy_(0, left, torch.bmm(some, some))
    return x


def _polynomial(a: torch.Tensor) -> torch.Tensor:
    """``sum_{k <= 16} A^k / k!`` of ``(N, n, n)`` matrices."""
    second = torch.bmm(a, a)
    third, fourth = torch.bmm(second, a), torch.bmm(second, second)
    first, *others = _TAYLOR.to(a)
    # Broadcast sums, not one matrix product: at this size a product would wait for threads.
    rows = first * a
    for coefficients, power in zip(others, (second, third, fourth)):
        rows.addcmul_(coefficients, power)
    last, *rest, total = rows.unbind()
    for row in reversed(rest):
        total = row.baddbmm_(total, fourth)
    total = torch.baddbmm(last, total, fourth)  # of its own memory: the rows' is four times as much
    total.diagonal(dim1=-2, dim2=-1).add_(1)
    return total
