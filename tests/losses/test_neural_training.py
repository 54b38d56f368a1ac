"""MINELoss trains a network to align images of two modalities, its critic learning along."""

from __future__ import annotations

import torch

from medmi.losses import MINELoss, VoxelSampling
from tests.oracles.alignment_training import inverted, train_to_align


def test_landmark_error_falls_by_half_while_the_critic_learns_along() -> None:
    torch.manual_seed(0)
    loss = MINELoss(sampling=VoxelSampling(num_samples=256))
    before, after = train_to_align(loss, loss.parameters(), inverted)
    assert after < before / 2
