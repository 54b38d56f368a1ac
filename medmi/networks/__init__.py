"""Networks: critics of mutual information, encoders, and the spatial transformer."""

from medmi.networks.critics import (
    BilinearCritic,
    EmbeddingCritic,
    ImagePairCritic,
    ImageValuesCritic,
    SeparableCritic,
    SequencePairCritic,
    StatisticsNetwork,
)
from medmi.networks.infomax import InfoMaxEncoder
from medmi.networks.registration import RegistrationDiscriminator, RegistrationGenerator
from medmi.networks.registration_modern import ModernRegistrationDiscriminator, ModernRegistrationGenerator
from medmi.networks.registration_predictor import RegistrationPredictor, StackedPairNetwork
from medmi.networks.spatial_transformer import Gaussian, SpatialTransformer

__all__ = [
    "BilinearCritic",
    "EmbeddingCritic",
    "Gaussian",
    "ImagePairCritic",
    "ImageValuesCritic",
    "InfoMaxEncoder",
    "ModernRegistrationDiscriminator",
    "ModernRegistrationGenerator",
    "RegistrationDiscriminator",
    "RegistrationGenerator",
    "RegistrationPredictor",
    "SeparableCritic",
    "SequencePairCritic",
    "SpatialTransformer",
    "StackedPairNetwork",
    "StatisticsNetwork",
]
