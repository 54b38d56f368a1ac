from .bounds import BOUNDS, Bound
from .entropy import (
    entropy,
    mutual_information,
    normalized_mutual_information,
    total_variation_information,
)
from .estimator import CriticTraining, Estimate, MutualInformationNeuralEstimator
from .histogram import joint_histogram

__all__ = [
    "BOUNDS",
    "Bound",
    "CriticTraining",
    "Estimate",
    "MutualInformationNeuralEstimator",
    "entropy",
    "joint_histogram",
    "mutual_information",
    "normalized_mutual_information",
    "total_variation_information",
]
