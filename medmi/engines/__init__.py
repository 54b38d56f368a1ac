"""Adversarial training of registration networks, on MONAI's engines."""

from medmi.engines.adversarial import AdversarialRegistrationTrainer, Prediction, TrainingDiverged, supervised_loss
from medmi.engines.batches import PairBatches
from medmi.engines.checkpoints import Checkpoints, load_checkpoint, save_checkpoint
from medmi.engines.options import AdversarialOptions, Players, optimizer_for, warm_cosine
from medmi.engines.stopping import EarlyStop, error_mm

__all__ = [
    "AdversarialOptions",
    "AdversarialRegistrationTrainer",
    "Checkpoints",
    "EarlyStop",
    "PairBatches",
    "Players",
    "Prediction",
    "TrainingDiverged",
    "error_mm",
    "load_checkpoint",
    "optimizer_for",
    "save_checkpoint",
    "supervised_loss",
    "warm_cosine",
]
