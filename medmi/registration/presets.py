"""Presets: named sizes of the solver with the similarity that goes with them, frozen data; or one's own from a YAML file."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import yaml

from medmi.io.files import PathLike, existing_file, one_line
from medmi.registration.schedule import Plan
from medmi.validation import InputError, choose, suggestion

SUFFIXES = (".yaml", ".yml")
LARGEST_BYTES = 2**16


@dataclass(frozen=True)
class Preset:
    """What a name stands for.

    Attributes:
        plan: sizes of the solver.
        similarity: name of the term that is taken where the caller names none.
    """

    plan: Plan = field(default_factory=Plan)
    similarity: str = "mi"


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "default": Preset(),
        "fast": Preset(
            Plan(search_points=800, rotations=384, points=(1200, 2500, 6000), poses=(12, 4, 2), steps=(20, 15, 24))
        ),
        "accurate": Preset(
            Plan(
                search_points=2000, rotations=2048, points=(4000, 12000, 60000), poses=(48, 12, 3), steps=(40, 30, 288)
            )
        ),
        # PET's few bright organs fit in many poses: more candidates, scored by more points, and more of them climbed.
        "pet-ct": Preset(Plan(search_points=4000, rotations=2048, poses=(64, 16, 3))),
        # Limbs and trunks are cropped and nearly round: a wide search, and points enough to tell its winners apart.
        "mr-ct": Preset(Plan(search_points=2000, rotations=2048, points=(4000, 12000, 60000), poses=(48, 12, 3))),
        # Ultrasound shows edges and speckle: LC2's windows must be small in mm, so its grids are finer than other losses'.
        "mr-us": Preset(Plan(detail=1.35), "lc2"),
        # A voxel as large as a speckle cell: windows of many voxels, no level below the voxel, a smooth anatomy.
        "mr-us-coarse": Preset(Plan(detail=1.35, finest=1.0, smoothing=1.0), "lc2_wide"),
        # Stains share structure, not intensities: descriptors, on grids fine enough to show it.
        "microscopy-2d": Preset(Plan(detail=2.0), "mind"),
    }
)


def as_preset(preset: str | pathlib.Path | None) -> Preset:
    """The preset of a name, ``default`` for None, or of a ``.yaml`` file.

    Raises:
        InputError: an unknown name, or a file that :func:`read_preset` refuses.
    """
    if isinstance(preset, pathlib.Path) or (isinstance(preset, str) and preset.lower().endswith(SUFFIXES)):
        return read_preset(preset)
    return PRESETS["default"] if preset is None else choose(preset, PRESETS, "preset")


def read_preset(path: PathLike) -> Preset:
    """A preset from YAML: a flat mapping of :class:`~medmi.registration.schedule.Plan`'s fields and ``similarity``; what it leaves out is
    as in ``default``.

    Raises:
        InputError: no such file, no mapping in YAML, an unknown item, or a value that the item cannot take.
    """
    file = existing_file(path)
    if file.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{file}: has {file.stat().st_size} bytes; a preset has at most {LARGEST_BYTES}")
    with one_line(file, "a preset in YAML"):
        tree = parsed(file.read_text(encoding="utf-8"))
    if not isinstance(tree, dict):
        raise InputError(f"{file}: holds no mapping; give lines such as 'search_points: 800'")
    defaults = {f.name: getattr(Plan(), f.name) for f in fields(Plan)} | {"similarity": "mi"}
    values = {name: checked(f"{file}: ", name, item, defaults) for name, item in tree.items()}
    similarity = values.pop("similarity", defaults["similarity"])
    return Preset(Plan(**values), similarity)


def parsed(text: str) -> Any:
    """What YAML holds as plain values."""
    try:
        return yaml.safe_load(text)
    # Beyond YAMLError: dates that cannot be, unhashable keys, nesting without end.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"is no preset in YAML ({' '.join(str(error).split())[:200]})") from error


def checked(place: str, name: Any, item: Any, defaults: Mapping[str, Any]) -> Any:
    """An item of a preset file as its default's kind, or an error that says what is asked."""
    if name not in defaults:
        near = suggestion(str(name)[:60], defaults)
        raise InputError(f"{place}unknown item {str(name)[:60]!r}{near} One of: {', '.join(defaults)}")
    default = defaults[name]
    if isinstance(default, tuple):
        kind, asked = type(default[0]), f"a list of {len(default)} whole numbers from 1"
        fits = isinstance(item, list) and len(item) == len(default) and all(positive(i, kind) for i in item)
    elif isinstance(default, str):
        asked, fits = "the name of a similarity", isinstance(item, str)
    else:
        asked = "a whole number from 1" if isinstance(default, int) else "a number above 0"
        fits = positive(item, type(default))
    if not fits:
        raise InputError(f"{place}{name}: {shown(item)} cannot be used; give {asked}")
    return tuple(item) if isinstance(default, tuple) else type(default)(item)


def shown(item: Any) -> str:
    """What came, cut short; never the whole of a tree, which may hold itself or unfold without end."""
    return f"a {type(item).__name__}" if isinstance(item, (dict, list, tuple, set)) else repr(str(item)[:60])


def positive(item: Any, kind: type) -> bool:
    """Whether a value is a number above zero of that kind; a whole number is a number too, true and false are none."""
    kinds = (int,) if kind is int else (int, float)
    return isinstance(item, kinds) and not isinstance(item, bool) and math.isfinite(item) and item > 0
