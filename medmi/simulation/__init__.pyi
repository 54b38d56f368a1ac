from .augmentation import Augmentation
from .pairs import Extent, Motions, TrainingPairs, random_motions
from .phantom import HeadPhantom, demo_pair, head_labels
from .probe import Probe, fan_mask
from .ultrasound import simulate_ultrasound

__all__ = [
    "Augmentation",
    "Extent",
    "HeadPhantom",
    "Motions",
    "Probe",
    "TrainingPairs",
    "demo_pair",
    "fan_mask",
    "head_labels",
    "random_motions",
    "simulate_ultrasound",
]
