"""Neural mutual information as a loss: a critic that learns together with the model whose images it compares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.utils import LossReduction
from torch import Tensor, nn

from medmi.information.bounds import BOUNDS, MovingAverage
from medmi.information.pairs import all_pairs, derangements, score_pairs, voxel_pairs
from medmi.losses.base import DenseLoss
from medmi.networks.critics import StatisticsNetwork
from medmi.validation import InputError, choose

__all__ = ["MINELoss", "VoxelSampling"]


@dataclass(frozen=True)
class VoxelSampling:
    """Which voxel pairs a neural loss is computed from.

    Attributes:
        num_samples: voxels drawn from each sample, with replacement; None: every voxel once.
        marginals: derangements of the drawn voxels; None: all pairs but the true ones, for few voxels.
        seed: of the drawing.

    Raises:
        InputError: fewer than two voxels or one derangement.
    """

    num_samples: int | None = 2048
    marginals: int | None = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, number, least in (("num_samples", self.num_samples, 2), ("marginals", self.marginals, 1)):
            if number is not None and number < least:
                raise InputError(f"{name}: {number!r} came; at least {least} is asked")


class MINELoss(DenseLoss):
    """Minus a variational bound of the mutual information of two images' voxels, by a critic that this loss owns.

    For each sample and group of channels, voxels are drawn, standardised, and scored as true pairs and as derangements
    of them; the value is minus the bound, in nat: 0 for a critic that tells nothing, -I for the best one, so lower is
    better.

    The critic's parameters are parameters of this module and are *minimised together* with the model's (cooperative,
    not adversarial): give both to the optimiser, and the critic a rate of its own where the model's is low::

        groups = [{"params": model.parameters()}, {"params": loss.parameters(), "lr": 5e-3}]
        optimiser = torch.optim.Adam(groups, lr=1e-3)

    ``loss.requires_grad_(False)`` freezes the critic. ``VoxelSampling(None, None)`` leaves nothing random. In
    evaluation mode (``loss.eval()``) the gradient of ``mine`` is that of ``dv``.

    Args:
        bound: ``mine`` (Donsker-Varadhan with a moving-average gradient) or any row of
            :data:`medmi.information.bounds.BOUNDS`; ``smile`` is trained as ``jsd``, as published.
        critic: module called with x ``(M, channels)`` and y ``(M, channels)`` that gives ``(M,)``. None: a
            :class:`~medmi.networks.critics.StatisticsNetwork`.
        channels: channels that the critic sees together: 1 keeps them apart, 3 takes a colour as one (six inputs). The
            default critic is made for it.
        sampling: which voxels are paired.
        reduction: ``"mean"`` over samples and channel groups, ``"sum"`` of them, or ``"none"``: ``(B, C / channels)``.

    A voxel counts where the mask is non-zero in every channel of its group.

    Raises:
        InputError: unknown bound, ``channels`` under 1 or of which the images' are no multiple.

    Source: Belghazi et al. 2018, "Mutual Information Neural Estimation", Eq. 10 and 12; Nan et al. 2020, "DRMIME".
    """

    def __init__(
        self,
        bound: str = "mine",
        critic: nn.Module | None = None,
        channels: int = 1,
        sampling: VoxelSampling | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction)
        if channels < 1:
            raise InputError(f"channels: {channels!r} came; at least 1 is asked")
        self.row = choose(bound, BOUNDS, "bound")
        self.critic = StatisticsNetwork(channels, channels) if critic is None else critic
        self.channels, self.sampling = channels, sampling or VoxelSampling()
        self.generator = torch.Generator().manual_seed(self.sampling.seed)
        self.average = MovingAverage()

    def get_extra_state(self) -> dict[str, Tensor | None]:
        """What ``state_dict`` holds beside the critic, so that a stored loss goes on bit for bit: draws and the moving average."""
        return {"draws": self.generator.get_state(), "log_mean": self.average.log_mean}

    def set_extra_state(self, state: dict[str, Tensor | None]) -> None:
        """Inverse of :meth:`get_extra_state`, called by ``load_state_dict``."""
        draws, self.average.log_mean = state["draws"], state["log_mean"]
        if draws is not None:
            self.generator.set_state(draws.cpu())

    def measure(self, pred: Tensor, target: Tensor, inside: Tensor) -> Tensor:
        """Minus the bound of each sample and channel group: ``(B, C / channels)``."""
        samples, channels = pred.shape[:2]
        if channels % self.channels:
            raise InputError(f"MINELoss: pred has {channels} channels; a multiple of channels={self.channels} is asked")
        groups = [slice(first, first + self.channels) for first in range(0, channels, self.channels)]
        mask = None if bool(inside.all()) else inside
        values = [
            self._one(pred[b, g], target[b, g], None if mask is None else mask[b, g])
            for b in range(samples)
            for g in groups
        ]
        return torch.stack(values).reshape(samples, len(groups))

    def _one(self, pred: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        x, y = voxel_pairs(pred, target, mask, self.sampling.num_samples, self.generator)
        x, y = (_standardised(values, self.critic) for values in (x, y))
        joint, marginal = score_pairs(self.critic, x, y, self._pairing(len(x)))
        average = self.average if self.training and torch.is_grad_enabled() else MovingAverage()
        objective = self.row.train_on(joint, marginal, average)
        # The number is the bound's, the gradient that of what trains it.
        return -(objective + (self.row.value(joint, marginal) - objective).detach())

    def _pairing(self, size: int) -> Tensor:
        if self.sampling.marginals is None:
            return all_pairs(size)
        return derangements(size, min(self.sampling.marginals, size - 1), self.generator)


def _standardised(values: Tensor, critic: nn.Module) -> Tensor:
    """Zero mean and unit deviation of each channel ``(M, C)`` in the critic's precision; a constant channel is 0."""
    like = next(iter(critic.parameters()), None)
    values = values.to(torch.float32 if like is None else like.dtype)
    variance, mean = torch.var_mean(values, 0, correction=0)
    varied = variance > (10 * torch.finfo(values.dtype).eps * mean) ** 2
    deviation = torch.where(varied, variance, 1).sqrt()
    return torch.where(varied, (values - mean) / deviation, 0)
