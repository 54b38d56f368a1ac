"""What is asked of the solver, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from medmi.registration.evidence import Evidence
from medmi.registration.neural import NeuralTerm
from medmi.registration.schedule import Plan
from medmi.registration.terms import Term
from medmi.registration.workers import CPU
from medmi.spatial.linear import LinearTransform


@dataclass(frozen=True)
class Request:
    """What is asked of the solver.

    Attributes:
        family: of the transform.
        term: the similarity: a term on sampled points, a neural one, or a loss on the whole grid. The search and the coarsest level of the
            latter two run by mutual information, which any two modalities allow.
        start: ``auto`` for a search, a name of ``STARTS``, or a transform.
        plan: sizes.
        seed: of every random draw before the last level, and of a critic's.
        threads: that share the poses of each evaluation.
        on_progress: called with the share of the work done, 0 to 1.
        device: where objectives are evaluated.
    """

    family: str
    term: Term | NeuralTerm | nn.Module
    start: str | LinearTransform
    plan: Plan
    seed: int
    threads: int = 1
    on_progress: Callable[[float], None] | None = None
    device: torch.device = CPU


@dataclass
class Solution:
    """What came out: the transform, why the loop ended, the similarity after each evaluation (one row an evaluation), and what the
    answer is judged by, if it can be."""

    transform: LinearTransform
    status: str
    similarity: float
    overlap: float
    evidence: Evidence | None
    history: list[dict[str, float]] = field(default_factory=list)
