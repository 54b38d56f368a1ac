"""Images made in code, with known truth: an anatomical head, and ultrasound simulated from real MR or CT."""

from medmi.simulation.phantom import HeadPhantom, demo_pair, head_labels
from medmi.simulation.probe import Probe, fan_mask
from medmi.simulation.ultrasound import simulate_ultrasound

__all__ = ["HeadPhantom", "Probe", "demo_pair", "fan_mask", "head_labels", "simulate_ultrasound"]
