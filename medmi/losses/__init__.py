"""Similarity terms as MONAI losses: ``loss(pred, target, mask=None)`` on ``(B, C, *spatial)``, lower is better."""

from medmi.losses.adversarial import DiscriminatorLoss, GeneratorLoss, clip_weights, gradient_penalty
from medmi.losses.correlation import LocalNormalizedCrossCorrelationLoss, NormalizedCrossCorrelationLoss
from medmi.losses.descriptors import ModalityIndependentDescriptorLoss
from medmi.losses.linear_combination import CorrelationOfLinearCombinationLoss
from medmi.losses.linearised import LinearizedMutualInformationLoss
from medmi.losses.mutual_information import (
    MutualInformationLoss,
    NormalizedMutualInformationLoss,
    TotalVariationInformationLoss,
)
from medmi.losses.neural import MINELoss, VoxelSampling

__all__ = [
    "CorrelationOfLinearCombinationLoss",
    "DiscriminatorLoss",
    "GeneratorLoss",
    "LinearizedMutualInformationLoss",
    "LocalNormalizedCrossCorrelationLoss",
    "MINELoss",
    "ModalityIndependentDescriptorLoss",
    "MutualInformationLoss",
    "NormalizedCrossCorrelationLoss",
    "NormalizedMutualInformationLoss",
    "TotalVariationInformationLoss",
    "VoxelSampling",
    "clip_weights",
    "gradient_penalty",
]
