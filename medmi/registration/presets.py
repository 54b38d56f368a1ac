"""Presets: named sizes of the solver, frozen data."""

from __future__ import annotations

from types import MappingProxyType

from medmi.registration.schedule import Plan

PRESETS = MappingProxyType(
    {
        "default": Plan(),
        "fast": Plan(search_points=800, rotations=384, points=(1200, 2500, 6000), poses=(12, 4, 1), steps=(20, 15, 20)),
        "accurate": Plan(
            search_points=2000, rotations=2048, points=(4000, 12000, 60000), poses=(48, 12, 2), steps=(40, 30, 50)
        ),
    }
)
