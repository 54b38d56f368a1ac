"""Measures of what two images or samples tell about one another: histograms, entropies, variational bounds,
estimators.
"""

from medmi.information.bounds import BOUNDS, Bound
from medmi.information.entropy import (
    entropy,
    mutual_information,
    normalized_mutual_information,
    total_variation_information,
)
from medmi.information.estimator import CriticTraining, Estimate, MutualInformationNeuralEstimator
from medmi.information.histogram import joint_histogram

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
