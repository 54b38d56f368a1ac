"""Adversarial training of registration networks, on MONAI's engines."""

from medmi.engines.adversarial import AdversarialRegistrationTrainer, Prediction, TrainingDiverged, supervised_loss
from medmi.engines.batches import PairBatches
from medmi.engines.checkpoints import Checkpoints, load_checkpoint, save_checkpoint
from medmi.engines.options import AdversarialOptions, Players, generator_optimizer, optimizer_for, warm_cosine
from medmi.engines.rolling import RollingPairs
from medmi.engines.stopping import EarlyStop, error_mm, pose_errors_mm

__all__ = [
    "AdversarialOptions",
    "AdversarialRegistrationTrainer",
    "Checkpoints",
    "EarlyStop",
    "PairBatches",
    "Players",
    "Prediction",
    "RollingPairs",
    "TrainingDiverged",
    "error_mm",
    "generator_optimizer",
    "load_checkpoint",
    "optimizer_for",
    "pose_errors_mm",
    "save_checkpoint",
    "supervised_loss",
    "warm_cosine",
]
