"""Joint histograms of many voxels, odd dtypes, autocast and threads; memory; what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from medmi.information import joint_histogram
from medmi.information.windows import WINDOWS
from medmi.validation import InputError

X = torch.arange(24.0).reshape(1, 2, 3, 4)


def images(*shape):
    g = torch.Generator().manual_seed(1)
    x = torch.rand(shape, generator=g)
    return x, x**2 + torch.rand(shape, generator=g)


def test_many_voxels_in_one_bin_are_all_counted():
    x = torch.zeros(1, 1, 20_000_001)
    x[..., -1] = 1
    table = joint_histogram(x, x, 2)[0, 0]
    assert abs(float(table[0, 0]) * 20_000_001 - 20_000_000) < 1e-6


@pytest.mark.parametrize("window", WINDOWS)
def test_same_bits_at_any_number_of_threads(window):
    x, y = images(1, 2, 60, 61, 62)
    before, tables, grads = torch.get_num_threads(), [], []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            image = x.clone().requires_grad_()
            tables.append(joint_histogram(image, y, 32, window))
            (tables[-1] ** 2).sum().backward()
            grads.append(image.grad)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(tables[0], other) for other in tables[1:])
    assert all(torch.equal(grads[0], other) for other in grads[1:])


@pytest.mark.parametrize("window", WINDOWS)
def test_float32_is_close_to_float64(window):
    x, y = images(1, 1, 50, 51, 52)
    torch.testing.assert_close(
        joint_histogram(x, y, 32, window), joint_histogram(x.double(), y.double(), 32, window), rtol=0, atol=2e-9
    )


def test_autocast_changes_no_bit():
    x, y = images(1, 1, 20, 21)
    plain = joint_histogram(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(joint_histogram(x, y), plain)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_whole_numbers(dtype):
    x = (images(1, 1, 20, 21)[0] * 100).to(dtype)
    assert torch.equal(joint_histogram(x, x, 11), joint_histogram(x.double(), x.double(), 11).to(torch.float64)) or (
        torch.allclose(joint_histogram(x, x, 11), joint_histogram(x.double(), x.double(), 11), atol=1e-6)
    )


def test_large_offsets_are_exact():
    x = images(1, 1, 20, 21)[0].double()
    torch.testing.assert_close(joint_histogram(x + 2**40, x, 16), joint_histogram(x, x, 16), rtol=0, atol=1e-4)
    whole = torch.arange(16).repeat(10)[None, None]
    far = joint_histogram(whole + 2**40, whole, 16)
    assert torch.equal(far, joint_histogram(whole, whole, 16))


@pytest.mark.parametrize("shape", [(3, 2, 40, 41), (2, 1, 250, 260)])
def test_alone_as_in_a_batch(shape):
    x, y = images(*shape)
    together = joint_histogram(x, y)
    for b in range(shape[0]):
        assert torch.equal(together[b : b + 1], joint_histogram(x[b : b + 1], y[b : b + 1]))


def test_nothing_but_the_gradient_grows_with_the_voxels():
    code = """
import resource, torch
from medmi.information import joint_histogram
torch.set_num_threads(1)
x = torch.rand(1, 1, 20_000_000, generator=torch.Generator().manual_seed(0)).requires_grad_()
y = x.detach().clone()
joint_histogram(x[..., :50_000], y[..., :50_000]).square().sum().backward()
x.grad = None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
joint_histogram(x, y).square().sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 - 20e6 * 4 / 2**20)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(out.stdout) < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 1}, r"num_bins: 1 cannot be used; give a whole number from 2 to 1024"),
        ({"num_bins": 2000}, "num_bins: 2000"),
        ({"num_bins": 8.0}, "num_bins: 8.0"),
        ({"num_bins": True}, "num_bins: True"),
        ({"window": "lineer"}, "window: unknown value 'lineer'; did you mean 'linear'"),
        ({"value_range": (1.0, 1.0)}, r"value_range: \(1.0, 1.0\)"),
        ({"value_range": (0.0, torch.nan)}, "value_range"),
        ({"value_range": (0.0, torch.inf)}, "value_range"),
        ({"value_range": (0.0, 1.0, 2.0)}, "value_range"),
        ({"value_range": ((0.0, 1.0), (3.0, 2.0))}, "value_range"),
        ({"value_range": 3.0}, "value_range: 3.0"),
        ({"mask": torch.ones(1, 3, 3, 4)}, r"mask: shape \(1, 3, 3, 4\)"),
        ({"weights": torch.ones(2, 1, 3, 4)}, r"weights: shape \(2, 1, 3, 4\)"),
        ({"weights": -torch.ones(1, 1, 3, 4)}, "weights: negative"),
        ({"weights": torch.full((1, 1, 3, 4), torch.nan)}, "weights: negative, NaN"),
        ({"mask": torch.zeros(1, 1, 3, 4)}, r"mask or weights: 0 voxel\(s\) count in sample 0, channel 0"),
        ({"weights": (X[:, 1:] == 13).float()}, r"mask or weights: 1 voxel\(s\)"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(InputError, match=message):
        joint_histogram(X, X, **options)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[0, 0], X[0, 0], r"x: shape \(3, 4\)"),
        (X.to(torch.complex64), X, "x: .*complex64"),
        (X, X.to(torch.complex64), "y: .*complex64"),
        (X, X[..., :3], r"y: shape \(1, 2, 3, 3\)"),
        (X[..., :1, :1], X[..., :1, :1], r"x: 1 voxel\(s\)"),
        (X.where(X != 5, torch.nan), X, "x: NaN or infinite"),
        (X, X.where(X != 5, -torch.inf), "y: NaN or infinite"),
    ],
)
def test_refuses_images(x, y, message):
    with pytest.raises(InputError, match=message):
        joint_histogram(x, y)


def test_given_range_still_refuses_nan():
    with pytest.raises(InputError, match="x: NaN"):
        joint_histogram(X.where(X != 5, torch.nan), X, value_range=(0.0, 30.0))


def test_second_derivatives_are_refused():
    x = images(1, 1, 4, 5)[0].requires_grad_()
    (grad,) = torch.autograd.grad(joint_histogram(x, x.detach(), 4).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value_range", [None, ((0.2, 0.7), (0.3, 1.6))])
def test_compiled_loops_equal_the_torch_walk(dtype, value_range):
    """A mask of ones changes nothing but the path."""
    pair = [image.to(dtype) for image in images(2, 2, 97, 301)]
    table = torch.rand(32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = []
    for mask in (None, torch.ones(2, 1, 97, 301)):
        x, y = (image.clone().requires_grad_() for image in pair)
        p = joint_histogram(x, y, 32, value_range=value_range, mask=mask)
        (p * table).sum().backward()
        found.append((p.detach(), x.grad, y.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-15)
    for first, second in zip(found[0][1:], found[1][1:]):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-6 * float(second.abs().max()))
