"""Presets: named sizes of the solver, frozen data."""

from __future__ import annotations

from types import MappingProxyType

from medmi.registration.schedule import Plan

PRESETS = MappingProxyType(
    {
        "default": Plan(),
        "fast": Plan(search_points=500, rotations=256, points=(1200, 2500, 6000), poses=(8, 3, 1), steps=(20, 15, 20)),
        "accurate": Plan(search_points=1500, rotations=1024, points=(4000, 12000, 60000), poses=(24, 8, 2), steps=(40, 30, 50)),
    }
)
