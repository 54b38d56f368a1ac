from .critics import (
    BilinearCritic,
    EmbeddingCritic,
    ImagePairCritic,
    ImageValuesCritic,
    SeparableCritic,
    SequencePairCritic,
    StatisticsNetwork,
)
from .infomax import InfoMaxEncoder
from .registration import RegistrationDiscriminator, RegistrationGenerator
from .registration_modern import ModernRegistrationDiscriminator, ModernRegistrationGenerator
from .registration_predictor import RegistrationPredictor, StackedPairNetwork
from .spatial_transformer import Gaussian, SpatialTransformer

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
