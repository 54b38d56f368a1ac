"""MINELoss: closed form of a frozen critic, the loss contract with nothing random, learning, options and refusals."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from medmi.information import BOUNDS
from medmi.losses import MINELoss, VoxelSampling
from medmi.networks import StatisticsNetwork
from medmi.threads import one_thread
from medmi.validation import InputError
from tests.contracts.losses import LossContract

EVERY = VoxelSampling(num_samples=None, marginals=None)
FEW = VoxelSampling(num_samples=600)


class Product(nn.Module):
    """x y: with all pairs of voxels its Donsker-Varadhan value is a short sum."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(1)


def frozen(
    bound: str = "dv", channels: int = 1, reduction: str = "none", dtype: torch.dtype = torch.float64
) -> MINELoss:
    critic = StatisticsNetwork(channels, channels, hidden=(8, 8)).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in critic.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=dtype))
    return MINELoss(bound, critic.requires_grad_(False), channels, EVERY, reduction).eval()


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator, dtype=dtype)
    return x, x**2 + 0.2 * torch.rand(shape, generator=generator, dtype=dtype)


def test_value_is_minus_donsker_varadhan_of_all_pairs() -> None:
    x, y = images(1, 1, 3, 4)
    u, v = ((z.flatten() - z.mean()) / z.std(correction=0) for z in (x, y))
    products = torch.outer(u, v)
    other = products[~torch.eye(12, dtype=torch.bool)]
    loss = MINELoss("dv", Product(), sampling=EVERY)(x, y)
    assert float(loss) == pytest.approx(float(other.exp().mean().log() - products.diagonal().mean()), abs=1e-6)


class TestFrozenMINELoss(LossContract):
    """With a frozen critic and all pairs nothing is random: the contract of every loss holds."""

    symmetric = False

    def make(self, reduction: str = "mean") -> nn.Module:
        return frozen(reduction=reduction)

    def test_same_bits_at_any_number_of_threads(self) -> None:
        """On fewer voxels than the contract's: it pairs each with each."""
        x, y = images(1, 1, 23, 31)
        before, found = torch.get_num_threads(), []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(frozen()(x, y))
        torch.set_num_threads(before)
        assert torch.equal(*found)


@pytest.mark.parametrize("bound", [name for name in BOUNDS if name != "smile"])
def test_gradients_to_both_images_and_the_critic(bound: str) -> None:
    loss, (x, y) = frozen(bound, reduction="mean"), images(1, 2, 2, 3)
    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), y.requires_grad_()))
    weight = loss.critic.layers[0].weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda _: loss(x.detach(), y.detach()), (weight,))


def test_smile_has_its_clipped_value_and_the_gradient_of_jensen_shannon() -> None:
    (x, y), smile, jensen = images(1, 1, 4, 4), frozen("smile"), frozen("jsd")
    x.requires_grad_()
    torch.testing.assert_close(*(torch.autograd.grad(loss(x, y).sum(), x)[0] for loss in (smile, jensen)))
    assert float(smile(x, y).detach()) != float(jensen(x, y).detach())


def test_mine_has_the_value_of_dv_and_the_gradient_of_its_moving_average() -> None:
    mine, (x, y) = MINELoss("mine", Product(), sampling=EVERY), images(1, 1, 4, 4)
    first = float(mine(x, y))
    z = y.flip(-1).requires_grad_()
    value = mine(x, z)
    assert float(value.detach()) == pytest.approx(float(MINELoss("dv", Product(), sampling=EVERY)(x, z).detach()))
    (moving,) = torch.autograd.grad(value, z)
    mine.eval()
    (own,) = torch.autograd.grad(mine(x, z), z)
    assert not torch.allclose(moving, own) and math.isfinite(first)


def test_colour_is_seen_together() -> None:
    """Each channel of y is noise beside its own of x; only the three together tell."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 3, 64, 64, generator=generator), torch.randn(1, 3, 64, 64, generator=generator)
    y[:, 0] = x[:, 1]
    torch.manual_seed(0)
    apart, together = MINELoss("dv", sampling=FEW), MINELoss("dv", channels=3, sampling=FEW)
    assert together.critic.layers[0].in_features == 6
    assert train(apart, x, y) > -0.05 and train(together, x, y) < -0.4
    mask = torch.ones(1, 3, 64, 64)
    mask[:, 0, :32] = 0
    assert MINELoss("dv", channels=3, reduction="none")(x, y, mask).shape == (1, 1)


@one_thread()
def train(loss: MINELoss, x: Tensor, y: Tensor, steps: int = 100) -> float:
    optimiser = torch.optim.Adam(loss.parameters(), 5e-3)
    values = []
    for _ in range(steps):
        value = loss(x, y)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    return sum(values[-20:]) / 20


def test_its_critic_learns_the_information_of_gaussian_images() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 1, 64, 64, generator=generator), torch.randn(2, 1, 64, 64, generator=generator)
    torch.manual_seed(0)
    value = train(MINELoss(sampling=FEW), x, 0.8 * x + 0.6 * noise)
    assert value == pytest.approx(0.5 * math.log(1 - 0.64), abs=0.06)


def test_same_seed_draws_the_same_voxels_and_copies_go_on_alike() -> None:
    critic, (x, y) = StatisticsNetwork(), images(1, 1, 16, 16, dtype=torch.float32)
    first, second, other = (MINELoss("dv", critic, sampling=VoxelSampling(50, 2, seed)) for seed in (4, 4, 5))
    values = [float(first(x, y).detach()) for _ in range(2)]
    assert values[0] != values[1] and values == [float(second(x, y).detach()) for _ in range(2)]
    assert values[0] != float(other(x, y).detach())
    assert float(copy.deepcopy(first)(x, y).detach()) == float(second(x, y).detach())


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: MINELoss("mien"), "bound: unknown value 'mien'"),
        (lambda: MINELoss(channels=0), "channels: 0"),
        (lambda: MINELoss(reduction="max"), "reduction"),
        (lambda: VoxelSampling(num_samples=1), "num_samples: 1"),
        (lambda: VoxelSampling(marginals=0), "marginals: 0"),
        (lambda: MINELoss(channels=2)(*images(1, 3, 4, 4)), "pred has 3 channels; a multiple of channels=2"),
        (
            lambda: MINELoss(channels=2)(*images(1, 2, 4), torch.eye(4)[None, [0, 1]] + torch.eye(4)[None, [2, 3]]),
            "mask: it leaves 0 voxels",
        ),
        (lambda: MINELoss()(images(1, 1, 4)[0], images(1, 1, 5)[0]), r"\(1, 1, 5\)"),
    ],
)
def test_refusals_name_the_argument(build, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build()
