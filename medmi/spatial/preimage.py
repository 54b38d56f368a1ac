"""Fixed points of given moving points: the inverse of a transform at single points, without an inverse transform."""

from __future__ import annotations

import torch

from medmi.spatial.base import Chain, SpatialTransform
from medmi.spatial.linear import LinearTransform
from medmi.validation import InputError

TOLERANCE = 1e-4  # mm
STEP = 1e-3  # mm, of the differences that give the Jacobian
ITERATIONS = 60


def preimage(transform: SpatialTransform, points: torch.Tensor) -> torch.Tensor:
    """World points x with ``T(x) = y`` for moving world points y ``(..., d)``, to 1e-4 mm.

    Exact for matrices; parts of a chain are inverted one by one; every other transform by Newton's method with halved
    steps, started at y. Where T folds, the solution found is one of several.

    Raises:
        InputError: no x was found for a point, as where the transform tears or leaps.

    >>> turn = LinearTransform.from_parameters(torch.tensor([3.0, 0.0, torch.pi / 2]), "rigid")
    >>> preimage(turn, turn.points(torch.tensor([[4.0, 5.0]], dtype=torch.float64))).round(decimals=9).tolist()
    [[4.0, 5.0]]
    """
    if isinstance(transform, LinearTransform):
        return transform.inverse().points(points.double())
    if isinstance(transform, Chain):
        x = points
        for part in transform:
            x = preimage(part, x)
        return x
    with torch.no_grad():
        return newton(transform, points.double().reshape(-1, transform.spatial_dims)).reshape(points.shape)


def newton(transform: SpatialTransform, y: torch.Tensor) -> torch.Tensor:
    """Solve T(x) = y for points ``(n, d)``; each point's step is halved until its residual shrinks."""
    x = y.clone()
    rest = y - transform.points(x)
    for _ in range(ITERATIONS):
        active = (rest.norm(dim=-1) > TOLERANCE).nonzero()[:, 0]
        if not len(active):
            return x
        step = torch.linalg.lstsq(jacobian(transform, x[active]), rest[active].unsqueeze(-1)).solution[..., 0]
        x[active], rest[active] = line_search(transform, x[active], step, y[active], rest[active])
    worst = int(rest.norm(dim=-1).argmax())
    raise InputError(
        f"transform: no fixed point maps to the moving point {[round(v, 2) for v in y[worst].tolist()]} mm (RAS), "
        f"{float(rest[worst].norm()):.3f} mm are left; it folds or leaps there"
    )


def line_search(
    transform: SpatialTransform, x: torch.Tensor, step: torch.Tensor, y: torch.Tensor, rest: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first of x + step, x + step / 2, ... that is nearer to y, and its residual; the last tried if none is."""
    share = torch.ones_like(rest[:, :1])
    for _ in range(8):
        trial = y - transform.points(x + share * step)
        worse = trial.norm(dim=-1, keepdim=True) >= rest.norm(dim=-1, keepdim=True)
        if not bool(worse.any()):
            break
        share = torch.where(worse, share / 2, share)
    at = x + share * step
    return at, y - transform.points(at)


def jacobian(transform: SpatialTransform, x: torch.Tensor) -> torch.Tensor:
    """dT/dx at points ``(n, d)`` by central differences, ``(n, d, d)``."""
    columns = [
        (transform.points(x + h) - transform.points(x - h)) / (2 * STEP)
        for h in STEP * torch.eye(x.shape[-1], dtype=torch.float64)
    ]
    return torch.stack(columns, -1)
