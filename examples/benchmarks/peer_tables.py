"""The page that ``peers.py`` writes: tables of its runs in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEGEND = """A cell holds the runs that succeed (mean error up to the pair's limit), the mean error in mm over the points with its 95th
percentile in brackets, and the seconds, each the median over the runs, failed ones included. *Faster* is how many times less
medmi takes than the fastest peer that succeeds in at least half of its runs of that row; a dash where none does."""


@dataclass(frozen=True)
class Run:
    """One registration: errors in mm, infinite where the system raised and ``failure`` says why."""

    pair: str
    motion: str
    seed: int
    family: str
    system: str
    mean: float
    p95: float
    seconds: float
    ok: bool
    failure: str = ""


Memory = Mapping[tuple[str, str], tuple[float, float]]


def distinct(values: Iterable[str]) -> list[str]:
    """The values in the order in which they first come."""
    return list(dict.fromkeys(values))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def share(runs: Sequence[Run]) -> str:
    """How many of the runs succeed, as ``2/3``."""
    return f"{sum(run.ok for run in runs)}/{len(runs)}"


def median(runs: Sequence[Run], value: Callable[[Run], float]) -> float:
    return float(np.median([value(run) for run in runs]))


def cell(runs: Sequence[Run]) -> str:
    """What a row's table says about one system."""
    mean, p95, seconds = (median(runs, value) for value in (lambda r: r.mean, lambda r: r.p95, lambda r: r.seconds))
    return f"{share(runs)}, {mean:.2f} ({p95:.2f}) mm, {seconds:.2f} s"


def times_faster(by_system: Mapping[str, Sequence[Run]]) -> float:
    """The fastest successful peer's median seconds over medmi's; NaN where there is none."""
    peers = [runs for name, runs in by_system.items() if name != "medmi" and 2 * sum(r.ok for r in runs) >= len(runs)]
    if "medmi" not in by_system or not peers:
        return float("nan")
    return min(median(runs, lambda r: r.seconds) for runs in peers) / median(by_system["medmi"], lambda r: r.seconds)


def by_pair_and_motion(runs: Sequence[Run], systems: Sequence[str]) -> str:
    """The table of one family."""
    rows = []
    for pair, motion in distinct_rows(runs):
        here = {s: [r for r in runs if (r.pair, r.motion, r.system) == (pair, motion, s)] for s in systems}
        here = {name: found for name, found in here.items() if found}
        faster = times_faster(here)
        cells = [cell(here[s]) if s in here else "" for s in systems]
        rows.append([pair, motion, *cells, "-" if np.isnan(faster) else f"{faster:.1f}"])
    return table(["pair", "motion", *systems, "faster"], rows)


def distinct_rows(runs: Sequence[Run]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((run.pair, run.motion) for run in runs))


def successes(runs: Sequence[Run], systems: Sequence[str]) -> str:
    """Runs that succeed, over all pairs, by system and motion."""
    motions = distinct(run.motion for run in runs)
    rows = [[s, *(share([r for r in runs if (r.system, r.motion) == (s, m)]) for m in motions)] for s in systems]
    return table(["system", *motions], rows)


def peaks(memory: Memory, systems: Sequence[str], torch_alone: float) -> str:
    """Peak memory by pair and system, and what of it came on top of the imports."""
    rows = []
    for pair in distinct(pair for pair, _ in memory):
        found = [memory[pair, s] for s in systems]
        rows.append([pair, *(f"{peak:.0f} (+{peak - before:.0f})" for before, peak in found)])
    note = (
        "Peak MiB of a process of its own that imports one system and registers two NIfTI files; in brackets its rise over the import.\n"
        f"A process that only imports torch takes {torch_alone:.0f}."
    )
    return note + "\n\n" + table(["pair", *systems], rows)


def page(runs: Sequence[Run], conditions: str, memory: Memory, torch_alone: float) -> str:
    """The whole page."""
    systems = distinct(run.system for run in runs)
    parts = ["# medmi beside its peers", conditions, LEGEND]
    for family in distinct(run.family for run in runs):
        of_family = [run for run in runs if run.family == family]
        parts += [f"## {family.capitalize()}", by_pair_and_motion(of_family, systems)]
        parts += [f"Runs that succeed over all pairs, {family}:", successes(of_family, systems)]
    if memory:
        parts += ["## Memory", peaks(memory, systems, torch_alone)]
    failures = distinct(f"- {run.system}, {run.pair}, {run.motion}: {run.failure}" for run in runs if run.failure)
    if failures:
        parts += ["## Runs that raised", "\n".join(failures)]
    return "\n\n".join(parts) + "\n"
