"""What every similarity loss owes; a test class inherits it and says how to make the loss.

Images are 2D unless a test says otherwise, of unlike sides, and every random number comes from a seeded generator.
"""

from __future__ import annotations

from abc import abstractmethod

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medmi.threads import one_thread
from medmi.validation import InputError

SHAPE = (1, 1, 19, 23)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """An image with structure and another that depends on it, with noise."""
    shape = shape or SHAPE
    ramp = torch.linspace(0, 6, shape[-1], dtype=dtype).sin() + torch.linspace(0, 2, shape[-2], dtype=dtype)[:, None]
    first = ramp + 0.3 * random(*shape, seed=1, dtype=dtype)
    return first, first**2 + 0.2 * random(*shape, seed=2, dtype=dtype)


class LossContract:
    """Tests inherited by the test class of each loss.

    Attributes:
        symmetric: whether pred and target may change places.
        pointwise: whether the loss is blind to a permutation of voxels.
        lowest: greatest lower bound of its values.
        highest: least upper bound of them.
    """

    symmetric = True
    pointwise = True
    lowest = -float("inf")
    highest = float("inf")

    @pytest.fixture(autouse=True)
    def _one_thread(self):
        with one_thread():
            yield

    @abstractmethod
    def make(self, reduction: str = "mean") -> nn.Module:
        """The loss."""

    def smooth(self) -> nn.Module:
        """The loss as its gradient is checked, where automatic ranges (constant for autograd) would spoil it."""
        return self.make()

    def test_alone_as_in_a_batch(self):
        first, second = pair()
        each = self.make("none")
        together = each(torch.cat([first, 100 * first + 7]), torch.cat([second, -40 * second]))
        assert together.shape == (2, 1)
        assert torch.equal(together[:1], each(first, second))

    def test_channels_are_apart(self):
        first, second = pair()
        each = self.make("none")
        both = each(torch.cat([first, second], 1), torch.cat([second, 50 * first], 1))
        torch.testing.assert_close(both[:, :1], each(first, second), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(both[:, 1:], each(second, 50 * first), rtol=1e-6, atol=1e-7)

    def test_reductions(self):
        first, second = pair(2, 3, 17, 13)
        values = self.make("none")(first, second)
        assert values.shape == (2, 3)
        torch.testing.assert_close(self.make("mean")(first, second), values.mean())
        torch.testing.assert_close(self.make("sum")(first, second), values.sum())

    def test_symmetry(self):
        first, second = pair()
        loss = self.make()
        same = torch.isclose(loss(first, second), loss(second, first), rtol=1e-5, atol=1e-6)
        assert bool(same) == self.symmetric

    def test_permutation_of_voxels(self):
        first, second = pair(dtype=torch.float64)
        order = torch.randperm(first[0, 0].numel(), generator=torch.Generator().manual_seed(0))
        mixed = [image.flatten(2)[..., order].reshape(image.shape) for image in (first, second)]
        loss = self.make()
        same = torch.isclose(loss(first, second), loss(*mixed), rtol=1e-9, atol=1e-10)
        assert bool(same) == self.pointwise

    @pytest.mark.parametrize("shape", [(1, 1, 61), (1, 1, 19, 23), (1, 1, 11, 13, 9)])
    def test_mask_is_a_crop_and_outside_may_be_nan(self, shape):
        first, second = pair(*shape) if len(shape) > 3 else (random(*shape, seed=3), random(*shape, seed=4))
        inner = (..., *(slice(2, size - 1) for size in shape[2:]))
        mask = torch.zeros(1, 1, *shape[2:], dtype=torch.bool)
        mask[inner] = True
        spoilt = [torch.where(mask, image, torch.nan).requires_grad_() for image in (first, second)]
        cropped = [image[inner].clone().requires_grad_() for image in (first, second)]
        loss = self.make()
        value, wanted = loss(*spoilt, mask=mask), loss(*cropped)
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
        value.backward(), wanted.backward()
        for whole, part in zip(spoilt, cropped):
            torch.testing.assert_close(whole.grad[inner], part.grad, rtol=1e-3, atol=1e-6)
            assert bool((whole.grad[~mask] == 0).all())

    @pytest.mark.parametrize(("shape", "masked"), [((1, 1, 9), True), ((1, 2, 4, 3), True), ((1, 1, 3, 4, 3), False)])
    def test_gradients_by_finite_differences(self, shape, masked):
        images = [random(*shape, seed=seed, dtype=torch.float64).requires_grad_() for seed in (5, 6)]
        mask = random(*shape[:1], 1, *shape[2:], seed=7) < 0.9 if masked else None
        loss = self.smooth()
        assert torch.autograd.gradcheck(lambda p, t: loss(p, t, mask=mask), images, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_precision(self, dtype, autocast):
        first, second = pair(1, 1, 31, 37)
        first, second = (image.to(dtype) for image in (first, second))
        half = first.clone().requires_grad_()
        loss = self.make()
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):
            value = loss(half, second)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(first.float(), second.float()), rtol=0.01, atol=1e-4)
        value.backward()
        assert bool(torch.isfinite(half.grad).all())

    def test_hounsfield_units_have_gradients(self):
        first = (4000 * random(1, 1, 15, 17, seed=8) - 1000).requires_grad_()
        other = (first + 20 * random(1, 1, 15, 17, seed=9)).detach()
        (grad,) = torch.autograd.grad(self.make()(first, other), first)
        assert (grad != 0).float().mean() > 0.5

    @pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
    def test_constant_images(self, which):
        images = list(pair())
        for index in which:
            images[index] = torch.full(SHAPE, 3.3)
        images = [image.requires_grad_() for image in images]
        value = self.make()(*images)
        assert self.lowest - 1e-6 <= float(value.detach()) <= self.highest + 1e-6
        value.backward()
        for index, image in enumerate(images):
            assert bool(torch.isfinite(image.grad).all())
            assert index not in which or bool((image.grad == 0).all())

    def test_values_stay_in_their_range(self):
        first, second = pair()
        loss = self.make()
        for other in (first, second, -first, random(*SHAPE, seed=11)):
            assert self.lowest - 1e-6 <= float(loss(first, other)) <= self.highest + 1e-6

    def test_same_bits_at_any_number_of_threads(self):
        first, second = pair(1, 1, 223, 301)
        if not self.pointwise:
            return
        before, found = torch.get_num_threads(), []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                image = first.clone().requires_grad_()
                value = self.make()(image, second)
                value.backward()
                found.append((value, image.grad))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])

    def test_metatensors_and_integers(self):
        first, second = pair()
        loss = self.make()
        value = loss(MetaTensor(first), MetaTensor(second))
        assert type(value) is Tensor and torch.equal(value, loss(first, second))
        whole = (first * 1000).to(torch.int16)
        torch.testing.assert_close(loss(whole, second), loss(whole.float(), second))

    def test_inputs_are_left_alone(self):
        first, second = pair()
        copies = first.clone(), second.clone()
        self.make()(first, second)
        assert torch.equal(first, copies[0]) and torch.equal(second, copies[1])

    @pytest.mark.parametrize(
        ("pred", "target", "mask", "message"),
        [
            ((1, 1, 8, 9), (1, 1, 9, 8), None, r"target \(1, 1, 9, 8\)"),
            ((1, 1, 8, 9), (1, 2, 8, 9), None, r"target \(1, 2, 8, 9\)"),
            ((8, 9), (8, 9), None, r"pred has shape \(8, 9\)"),
            ((1, 1, 1, 1), (1, 1, 1, 1), None, r"pred"),
            ((1, 1, 8, 9), (1, 1, 8, 9), torch.zeros(1, 1, 8, 9), "mask is empty"),
            ((1, 2, 8, 9), (1, 2, 8, 9), torch.tensor([1, 0])[None, :, None, None].expand(1, 2, 8, 9), "channel 1"),
            ((1, 1, 8, 9), (1, 1, 8, 9), torch.ones(1, 1, 9, 8), r"mask has shape \(1, 1, 9, 8\)"),
        ],
    )
    def test_refusals(self, pred, target, mask, message):
        with pytest.raises(InputError, match=message):
            self.make()(random(*pred), random(*target), mask)

    @pytest.mark.parametrize(("index", "name"), [(0, "pred"), (1, "target")])
    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_refuses_what_is_not_finite(self, index, name, value):
        images = [image.clone() for image in pair()]
        images[index][0, 0, 3, 4] = value
        with pytest.raises(InputError, match=f"^{name}: NaN or infinite"):
            self.make()(*images)

    def test_refuses_unknown_reductions(self):
        with pytest.raises(InputError, match="reduction: unknown value 'man'; did you mean 'mean'"):
            self.make("man")
