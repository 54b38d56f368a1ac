"""Metrics: landmarks, mutual information, deformation; each a MONAI metric and a ``compute_*`` function."""

from medmi.metrics.deformation import (
    InverseConsistencyMetric,
    JacobianDeterminantMetric,
    compute_inverse_consistency,
    compute_jacobian_determinant,
)
from medmi.metrics.information import (
    MutualInformationMetric,
    NeuralEstimation,
    NeuralMutualInformationMetric,
    NormalizedMutualInformationMetric,
    compute_mutual_information,
    compute_neural_mutual_information,
)
from medmi.metrics.landmarks import TargetRegistrationErrorMetric, compute_target_registration_error, pad_landmarks

__all__ = [
    "InverseConsistencyMetric",
    "JacobianDeterminantMetric",
    "MutualInformationMetric",
    "NeuralEstimation",
    "NeuralMutualInformationMetric",
    "NormalizedMutualInformationMetric",
    "TargetRegistrationErrorMetric",
    "compute_inverse_consistency",
    "compute_jacobian_determinant",
    "compute_mutual_information",
    "compute_neural_mutual_information",
    "compute_target_registration_error",
    "pad_landmarks",
]
