from .adversarial import DiscriminatorLoss, GeneratorLoss, clip_weights, gradient_penalty
from .correlation import LocalNormalizedCrossCorrelationLoss, NormalizedCrossCorrelationLoss
from .descriptors import ModalityIndependentDescriptorLoss
from .linear_combination import CorrelationOfLinearCombinationLoss
from .linearised import LinearizedMutualInformationLoss
from .mutual_information import (
    MutualInformationLoss,
    NormalizedMutualInformationLoss,
    TotalVariationInformationLoss,
)
from .neural import MINELoss, VoxelSampling

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
