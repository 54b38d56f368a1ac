"""Triton kernels of the joint tables against the float64 torch path.

They run on a CUDA device where there is one, else in Triton's interpreter where TRITON_INTERPRET=1 is set.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
import torch

from medmi.information import histogram, joint_histogram, kernels_cuda
from medmi.information.blocks import Kept
from medmi.information.moments import Axis, Layout
from medmi.information.windows import WINDOWS
from medmi.threads import one_thread

TAKEN = ("linear", "bspline")
SHAPE = (2, 3, 5, 7, 11)


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def device(monkeypatch):
    """Where the kernels run; on the CPU all that they take is sent to them, the rest to the torch path."""
    if kernels_cuda.triton is None:
        pytest.skip("Triton is not installed: its kernels are not tested")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("no CUDA device, and TRITON_INTERPRET=1 is not set: the Triton kernels are not tested")
    torch_path = histogram._tables

    def send(x, y, layout):
        return (kernels_cuda.tables if kernels_cuda.takes(x, y, layout) else torch_path)(x, y, layout)

    monkeypatch.setattr(histogram, "_tables", send)
    return torch.device("cpu")


def images(*shape):
    g = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=g)
    return x, x**2 + torch.rand(shape, generator=g)


def options(name, shape=SHAPE):
    g = torch.Generator().manual_seed(4)
    mask = torch.rand(shape[0], 1, *shape[2:], generator=g) < 0.6
    weights = torch.rand(shape, generator=g, dtype=torch.float64) * (torch.rand(shape, generator=g) < 0.8)
    return {
        "plain": {},
        "mask": {"mask": mask},
        "mask of each channel": {"mask": (weights > 0.4).float()},
        "weights": {"weights": weights},
        "shared weights": {"weights": weights[:, :1]},
        "range": {"value_range": ((-0.8, 1.1), (0.2, 2.0))},
        "all": {"mask": mask, "weights": weights, "value_range": (-0.5, 1.5)},
    }[name]


def sent(given, device):
    return {name: part.to(device) if isinstance(part, torch.Tensor) else part for name, part in given.items()}


def table_and_gradients(x, y, bins, window, given):
    """The table, and gradients of a scalar that weighs its bins unlike, on the CPU."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    table = joint_histogram(x, y, bins, window, **given)
    slopes = torch.randn(table.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (table * slopes.to(table.device)).sum().backward()
    return table.detach().cpu(), x.grad.cpu(), y.grad.cpu()


def assert_equals_float64(x, y, bins, window, given, device):
    on_device = sent(given, device)
    found = table_and_gradients(x.to(device), y.to(device), bins, window, on_device)
    wanted = table_and_gradients(x.double(), y.double(), bins, window, given)
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=2e-6 * float(wanted[0].max()))
    for got, want in zip(found[1:], wanted[1:]):
        assert got.dtype == x.dtype
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("window", TAKEN)
@pytest.mark.parametrize("bins", [2, 8, 15, 32, 64])
def test_tables_and_gradients_at_any_number_of_bins(device, window, bins):
    assert_equals_float64(*images(*SHAPE), bins, window, options("all"), device)


@pytest.mark.parametrize("window", TAKEN)
@pytest.mark.parametrize("given", ["plain", "mask", "mask of each channel", "weights", "shared weights", "range"])
def test_tables_and_gradients_with_each_option(device, window, given):
    assert_equals_float64(*images(*SHAPE), 15, window, options(given), device)


@pytest.mark.parametrize("window", TAKEN)
@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 97), (3, 1, 19, 23)])
def test_rows_of_many_ragged_parts(device, window, shape, monkeypatch):
    monkeypatch.setattr(kernels_cuda, "PARTS", 5)
    monkeypatch.setattr(kernels_cuda, "SHORTEST_PART", 40)
    assert_equals_float64(*images(*shape), 8, window, {}, device)


@pytest.mark.parametrize("window", TAKEN)
def test_what_the_mask_leaves_out_may_hold_anything_and_gets_no_gradient(device, window):
    (x, y), mask = images(*SHAPE), options("mask")["mask"]
    wanted = table_and_gradients(x.to(device), y.to(device), 15, window, {"mask": mask.to(device)})
    x, y = x.masked_fill(~mask, torch.nan), y.masked_fill(~mask, torch.inf)
    found = table_and_gradients(x.to(device), y.to(device), 15, window, {"mask": mask.to(device)})
    assert all(torch.equal(got, want) for got, want in zip(found, wanted))
    assert all(not grad.masked_select(~mask).any() for grad in found[1:])


def test_same_bits_twice_and_alone_as_in_a_batch(device):
    x, y = (image.to(device) for image in images(*SHAPE))
    once, again = (table_and_gradients(x, y, 32, "linear", {}) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(once, again))
    assert torch.equal(joint_histogram(x[1:, 2:], y[1:, 2:], 32).cpu(), once[0][1:, 2:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int16])
def test_narrow_dtypes_are_worked_in_float32(device, dtype):
    x, y = ((30 * image.abs()).to(dtype) for image in images(*SHAPE))
    found = joint_histogram(x.to(device), y.to(device), 15)
    torch.testing.assert_close(found.cpu(), joint_histogram(x.double(), y.double(), 15), rtol=0, atol=1e-7)


def test_gradients_of_half_images_are_half(device):
    x, y = (image.half().to(device).requires_grad_() for image in images(*SHAPE))
    (joint_histogram(x, y.detach(), 15) ** 2).sum().backward()
    wanted = x.detach().cpu().double().requires_grad_()
    (joint_histogram(wanted, y.detach().cpu().double(), 15) ** 2).sum().backward()
    assert x.grad.dtype == torch.float16 and y.grad is None
    torch.testing.assert_close(x.grad.cpu().double(), wanted.grad, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("window", TAKEN)
def test_a_constant_image_has_a_finite_table_and_no_gradient(device, window):
    x, y = (image.to(device) for image in images(*SHAPE))
    table, along_x, along_y = table_and_gradients(x * 0 + 3, y, 8, window, {})
    assert bool(torch.isfinite(table).all()) and not along_x.any() and bool(along_y.any())


def test_many_equal_voxels_do_not_round_each_other_away(device, monkeypatch):
    monkeypatch.setattr(kernels_cuda, "PARTS", 1)
    x = torch.full((1, 1, 50_003), 0.3)
    table = joint_histogram(x.to(device), x.to(device), 2, value_range=(0, 1)).cpu()[0, 0]
    near = float(x[0, 0, 0])
    wanted = torch.tensor([[(1 - near) ** 2, near * (1 - near)], [near * (1 - near), near**2]], dtype=torch.float64)
    torch.testing.assert_close(table, wanted, rtol=0, atol=3e-7)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("bins", [2, 3, 9])
def test_gathering_is_the_transpose_of_spreading(window, bins):
    g = torch.Generator().manual_seed(6)
    row, basis = WINDOWS[window], WINDOWS[window].taps.shape[1]
    sums = torch.randn(basis, 3, 4, bins - 1, generator=g, dtype=torch.float64, requires_grad=True)
    slopes = torch.randn(3, 4, bins, generator=g, dtype=torch.float64)
    histogram._spread(sums, row, bins).backward(slopes)
    torch.testing.assert_close(kernels_cuda.gathered(slopes, row), sums.grad)


def layout(window, bins):
    side = Axis(torch.zeros(1, 1).double(), torch.ones(1, 1).double(), False)
    return Layout(WINDOWS[window], bins, Kept(1, None, None), side, side)


@pytest.mark.parametrize(
    "window, bins, dtype",
    [("gaussian", 8, torch.float32), ("linear", 65, torch.float32), ("linear", 8, torch.float64)],
)
def test_the_torch_path_does_the_rest(window, bins, dtype):
    assert not kernels_cuda.takes(torch.zeros(1, 5, dtype=dtype), torch.zeros(1, 5), layout(window, bins))


@pytest.mark.parametrize("window", TAKEN)
def test_what_the_kernels_take(device, window):
    assert kernels_cuda.takes(torch.zeros(1, 5), torch.zeros(1, 5).half(), layout(window, 64))


def test_without_triton_the_module_loads_and_takes_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location("kernels_without_triton", kernels_cuda.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.takes(torch.zeros(1, 5), torch.zeros(1, 5), layout("linear", 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: what it is sent to is not tested")
@pytest.mark.parametrize("window, sends", [("linear", True), ("bspline", True), ("gaussian", False)])
def test_cuda_images_are_sent_to_the_kernels(device, window, sends, monkeypatch):
    seen, tables = [], kernels_cuda.tables
    monkeypatch.setattr(kernels_cuda, "tables", lambda *given: seen.append(True) or tables(*given))
    x, y = images(*SHAPE)
    found = joint_histogram(x.to(device), y.to(device), 15, window)
    assert bool(seen) == sends
    torch.testing.assert_close(found.cpu(), joint_histogram(x.double(), y.double(), 15, window), rtol=0, atol=1e-7)
