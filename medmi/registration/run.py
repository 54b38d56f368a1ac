"""A request on its way through the levels: what it draws, climbs along and records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from medmi.registration.drawing import Drawn, draw, surplus_of_points
from medmi.registration.families import FAMILY_BY_LEVEL, FREED, lift_point, scaled_basis, term_for
from medmi.registration.levels import Array, Volume
from medmi.registration.objective import Scores, make_objective
from medmi.registration.objective_torch import TensorVolume, tensor_volume, torch_objective
from medmi.registration.problem import Problem
from medmi.registration.request import Request
from medmi.registration.schedule import Stage, schedule
from medmi.registration.stiffness import Sampling, stiffened
from medmi.registration.terms import TERMS, Term
from medmi.registration.workers import COMPILED


@dataclass(frozen=True)
class Run:
    """A request on its way: what every level needs.

    Attributes:
        problem, request: what is solved.
        stages: coarse to fine.
        levels: the fixed and the moving volume of each stage.
        rng: of every draw before the last level.
        history: rows of the solution, added to.
        bases: of families, as far as they were asked for.
        reported: shares of the work that were reported as done, added to.
        thorough: whether it is by the thorough plan.
    """

    problem: Problem
    request: Request
    stages: list[Stage]
    levels: list[tuple[Volume, Volume]]
    rng: np.random.Generator
    history: list[dict[str, float]] = field(default_factory=list)
    bases: dict[str, Array] = field(default_factory=dict)
    reported: list[float] = field(default_factory=list)
    thorough: bool = False

    @cached_property
    def centre(self) -> Array:
        return lift_point(self.problem)

    def thoroughly(self) -> Run:
        """The run begun anew by a thorough plan; its levels stay."""
        plan = self.request.plan.thorough()
        request, stages = replace(self.request, plan=plan), schedule(self.problem, plan)
        return replace(self, request=request, stages=stages, history=[], thorough=True)

    def drawn(self, level: int, count: int) -> Drawn:
        """Points of a fixed level."""
        return draw(self.levels[level][0], count, self.rng)

    def enough(self, count: int, power: float = 0.5) -> int:
        """So many points, or more where the moving image is the smaller: in proportion to that power of how much smaller it is.

        In full (1) each pose sees as many points as if both were of one size, which takes the longer for it.
        """
        return round(count * self.surplus**power)

    @cached_property
    def surplus(self) -> float:
        return surplus_of_points(*self.levels[0])

    def basis(self, level: int) -> Array:
        return self.basis_of(FAMILY_BY_LEVEL[self.request.family][level])

    def basis_of(self, family: str) -> Array:
        """Generators ``(t, 4, 4)``, scaled."""
        if family not in self.bases:
            self.bases[family] = scaled_basis(family, self.problem)
        return self.bases[family]

    @property
    def term(self) -> Term:
        """What is looked at on points: of losses and critics the search and the coarsest level."""
        return self.request.term if isinstance(self.request.term, Term) else TERMS["mi"]

    @property
    def coarse_term(self) -> Term:
        """As the search and the coarsest level climb it, where families that let go of sizes later hold them.

        What is lost there is not known yet: a family that holds no size, a homography, goes by no rim.
        """
        return term_for(self.term, "rigid" if self.request.family in FREED else self.request.family, 1.0)

    def record(self, level: int) -> Callable[[Scores], None]:
        """Adds a row to the history at each call."""

        def record(scores: Scores) -> None:
            best = scores.best
            similarity, overlap = float(scores.similarity[best]), float(scores.overlap[best])
            self.history.append({"level": level, "similarity": similarity, "overlap": overlap})

        return record

    def tell(self, levels_done: float) -> None:
        """The progress, which a run begun anew does not take back."""
        if self.request.on_progress is not None:
            self.reported.append(max([levels_done / len(self.stages), *self.reported]))
            self.request.on_progress(self.reported[-1])

    @cached_property
    def moving_tensors(self) -> list[TensorVolume]:
        """The moving volume of each stage, on the device."""
        return [tensor_volume(moving, self.request.device) for _, moving in self.levels]

    def objective_of(self, term: Term, level: int, drawn: Drawn) -> Sampling:
        request, bins = self.request, self.stages[level].bins
        objective = make_objective(term, drawn, self.levels[level][1], self.centre, bins, request.threads)
        compiled = request.device.type in COMPILED
        found = objective if compiled else torch_objective(objective, self.moving_tensors[level])
        return stiffened(found, term.stiffness, self.problem.spatial_dims)
