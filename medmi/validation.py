"""Checks of what callers pass in: one clear line that names the argument and what came."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch

Row = TypeVar("Row")


class InputError(ValueError):
    """Bad input: what is wrong, where, and what to do, in one line."""


def choose(name: str, table: Mapping[str, Row], argument: str) -> Row:
    """The row of ``table`` called ``name``, or an error that suggests the nearest name.

    >>> choose("rigid", {"rigid": 6, "affine": 12}, "transform")
    6
    >>> choose("rigd", {"rigid": 6, "affine": 12}, "transform")
    Traceback (most recent call last):
    medmi.validation.InputError: transform: unknown value 'rigd'; did you mean 'rigid'? One of: rigid, affine
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise InputError(f"{argument}: unknown value {name!r}{suggestion(str(name), table)} One of: {', '.join(table)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where something near exists, else a full stop."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def check_pair(caller: str, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> None:
    """Raise unless pred and target are equal-shaped ``(B, C, *spatial)`` and mask broadcasts to them from ``(B, 1 or C, *spatial)``."""
    if pred.ndim < 3:
        raise InputError(f"{caller}: pred has shape {tuple(pred.shape)}; (B, C, *spatial) is asked")
    if pred.shape != target.shape:
        raise InputError(
            f"{caller}: pred has shape {tuple(pred.shape)} but target {tuple(target.shape)}; they must agree"
        )
    if mask is None:
        return
    wanted = (pred.shape[0], mask.shape[1] if mask.ndim > 1 else 0, *pred.shape[2:])
    if tuple(mask.shape) != wanted or mask.shape[1] not in (1, pred.shape[1]):
        raise InputError(
            f"{caller}: mask has shape {tuple(mask.shape)}; (B, 1 or C, *spatial) as in pred's {tuple(pred.shape)} is asked"
        )
    if not bool((mask != 0).flatten(1).any(1).all()):
        raise InputError(f"{caller}: mask is empty for at least one sample; give one with voxels inside")
