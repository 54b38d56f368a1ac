"""Images made in code, with known truth: an anatomical head, and ultrasound simulated from real MR or CT."""

from medmi.simulation.augmentation import Augmentation
from medmi.simulation.pairs import Extent, Motions, TrainingPairs, random_motions
from medmi.simulation.phantom import HeadPhantom, demo_pair, head_labels
from medmi.simulation.probe import Probe, fan_mask
from medmi.simulation.ultrasound import simulate_ultrasound

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
