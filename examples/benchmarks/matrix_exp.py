"""Time of the matrix exponential, forward and backward: medmi's, torch's, and the 100-term series of published code.

Run it as ``python examples/benchmarks/matrix_exp.py``. Every row is the best of three rounds in one process,
in microseconds a call; ``error`` is the largest relative difference of the gradient from torch's.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable

import torch

from medmi.spatial.generators import generators
from medmi.spatial.matrix_exp import matrix_exp

Exponential = Callable[[torch.Tensor], torch.Tensor]


def series(a: torch.Tensor) -> torch.Tensor:
    """``sum_{k <= 100} A^k / k!`` through autograd."""
    term = torch.eye(a.shape[-1], dtype=a.dtype).expand_as(a)
    total = term
    for k in range(1, 101):
        term = term @ a / k
        total = total + term
    return total


EXPONENTIALS: dict[str, Exponential] = {"medmi": matrix_exp, "torch": torch.linalg.matrix_exp, "series": series}


def gradient(exponential: Exponential, a: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of the weighted sum of ``exp(A)``: one forward and one backward pass."""
    leaf = a.detach().requires_grad_()
    return torch.autograd.grad(exponential(leaf), leaf, weights)[0]


def microseconds(call: Callable[[], torch.Tensor], calls: int) -> float:
    """Best mean of three rounds."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
    return best * 1e6


def main() -> None:
    torch.set_num_threads(2)
    machine = f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} threads"
    print(f"{datetime.date.today()}  {machine}, Python {platform.python_version()}, torch {torch.__version__}")
    print(
        f"{'family':12}{'type':10}{'matrices':>9}{'size':>6}  "
        + "".join(f"{name:>10}" for name in EXPONENTIALS)
        + "     error"
    )
    source = torch.Generator().manual_seed(0)
    for family, dims in (("rigid", 3), ("affine", 3), ("homography", 2)):
        basis = generators(family, dims)
        for dtype in (torch.float64, torch.float32):
            for count in (1, 1000):
                for size in (0.1, 1.0):
                    parameters = torch.randn(count, len(basis), generator=source, dtype=torch.float64) * size
                    a = torch.einsum("bt,tij->bij", parameters, basis).to(dtype)
                    weights = torch.randn(a.shape, generator=source, dtype=torch.float64).to(dtype)
                    report(f"{family:12}{str(dtype)[6:]:10}{count:9}{size:6}", a, weights)


def report(label: str, a: torch.Tensor, weights: torch.Tensor) -> None:
    """One row of the table."""
    times = [
        microseconds(lambda f=f: gradient(f, a, weights), 100 if len(a) == 1 else 3) for f in EXPONENTIALS.values()
    ]
    ours, torchs = (gradient(f, a, weights) for f in (matrix_exp, torch.linalg.matrix_exp))
    error = float((ours - torchs).abs().max() / torchs.abs().max())
    print(f"{label}  " + "".join(f"{t:10.0f}" for t in times) + f"  {error:8.1e}")


if __name__ == "__main__":
    main()
