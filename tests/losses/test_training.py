"""Histogram losses train a network to align pairs: across contrasts, or within one for the linearised form."""

from __future__ import annotations

import pytest

from medmi.losses import LinearizedMutualInformationLoss, MutualInformationLoss
from tests.oracles.alignment_training import inverted, train_to_align, unchanged


@pytest.mark.parametrize(
    ("loss", "contrast"),
    [(MutualInformationLoss(num_bins=16), inverted), (LinearizedMutualInformationLoss(num_bins=6), unchanged)],
)
def test_landmark_error_is_halved(loss, contrast):
    before, after = train_to_align(loss, contrast=contrast)
    assert after < before / 2
