"""``medmi batch``: every pair of a table registered into a folder of its own, and a table of how each went.

A pair is *finished* when its folder holds a result that did not fail, of the same image contents, options and version;
resuming passes over it. A pair that fails stops no other.
"""

from __future__ import annotations

import csv
import hashlib
import json
import pathlib
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import torch

from medmi.apps.output import remove_results
from medmi.apps.pairs import STARTS_BY_NAME, Pair, fault_of_start, read_pairs
from medmi.apps.registration import Order, register_files
from medmi.apps.report import without_paths
from medmi.apps.workers import Outcome, run_here, run_in_processes, run_on_scheduler
from medmi.io.files import PathLike, existing_file, replacing
from medmi.io.images import with_choices
from medmi.registration.inputs import as_device, as_term, check_options
from medmi.registration.presets import PRESETS, as_preset
from medmi.validation import InputError

SUMMARY = "summary.csv"
COLUMNS = ("id", "status", "similarity", "confidence", "seconds", "message")
DONE_BEFORE = "finished in an earlier run"
MARK = "inputs_and_options"
BLOCK = 2**20


@dataclass(frozen=True)
class Crew:
    """Who does the work: a number of processes here (one: this very process), or a dask scheduler's workers."""

    workers: int = 1
    scheduler: str | None = None


@dataclass(frozen=True)
class Job:
    """One pair, where its results go, and the options."""

    pair: Pair
    folder: pathlib.Path
    order: Order


def run_batch(
    table: PathLike,
    folder: pathlib.Path,
    order: Order,
    crew: Crew,
    resume: bool,
    progress: Callable[[float], None] | None,
) -> dict[str, Any]:
    """Register every pair of a table into ``folder/ID``; ``folder/summary.csv`` is rewritten after each.

    Args:
        table: CSV as :func:`medmi.apps.pairs.read_pairs` takes it.
        folder: of all results, made where it does not exist.
        order: options of every pair; a row's own ``initial`` goes before the order's.
        crew: where the pairs are worked on.
        resume: whether finished pairs are passed over.
        progress: told the share of the pairs that are done.

    Returns:
        Counts of pairs, of those that failed and that were finished before, and the rows of the summary.

    Raises:
        InputError: a bad table or option, a folder that cannot be written, or no scheduler.
    """
    check_order(order)
    check_crew(crew)
    jobs = [
        Job(pair, folder.absolute() / pair.folder, for_pair(order, pair))
        for pair in read_pairs(pathlib.Path(table).absolute())
    ]
    make_folder(folder)
    rows = {job.pair.id: finished(job) for job in jobs} if resume else {}
    done = {name: row for name, row in rows.items() if row}
    passed = len(done)
    left = [job for job in jobs if job.pair.id not in done]
    write_summary(folder, jobs, done)
    with closing(outcomes(left, crew)) as ended:
        for job, row in ended:
            done[job.pair.id] = row
            write_summary(folder, jobs, done)
            if progress is not None:
                progress(len(done) / len(jobs))
    failed = sum(row["status"] == "failed" for row in done.values())
    return {"pairs": len(jobs), "failed": failed, "finished_before": passed, "rows": [done[j.pair.id] for j in jobs]}


def for_pair(order: Order, pair: Pair) -> Order:
    """The options with what the row says itself; workers elsewhere need whole paths."""
    initial = pair.initial or order.initial
    whole = initial if initial in STARTS_BY_NAME else str(pathlib.Path(initial).absolute())
    preset = order.preset if order.preset in (None, *PRESETS) else str(pathlib.Path(str(order.preset)).absolute())
    return replace(order, initial=whole, preset=preset, fixed_mask=pair.fixed_mask, moving_mask=pair.moving_mask)


def check_order(order: Order) -> None:
    """Refuse, once and before anything runs, options that no pair could be registered with."""
    check_options(order.transform.split(","), order.threads, order.seed)
    as_term(order.similarity or as_preset(order.preset).similarity, as_device(order.device))
    if fault := fault_of_start(order.initial):
        raise InputError(f"initial: {fault}")
    if order.initial not in STARTS_BY_NAME:
        existing_file(order.initial)


def check_crew(crew: Crew) -> None:
    """Refuse a crew that cannot be."""
    if crew.workers < 1:
        raise InputError(f"--workers: got {crew.workers}; at least 1 is asked")
    if crew.scheduler is not None and crew.workers > 1:
        raise InputError("--workers: the scheduler has workers of its own; give --workers or --scheduler, not both")


def make_folder(folder: pathlib.Path) -> None:
    """Make the folder of all results."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder with -o") from error


def outcomes(jobs: Sequence[Job], crew: Crew) -> Generator[tuple[Job, Outcome]]:
    """Every job with its row, as they end."""
    if crew.scheduler is not None:
        yield from run_on_scheduler(row_of, jobs, crew.scheduler, failure)
    elif crew.workers > 1 and jobs:
        yield from run_in_processes(row_of, jobs, crew.workers, failure)
    else:
        yield from run_here(row_of, jobs)


def row_of(job: Job) -> Outcome:
    """Register one pair; its row of the summary, whatever happens."""
    start = time.perf_counter()
    torch.set_num_threads(job.order.threads)
    try:
        order = replace(job.order, noted={MARK: mark(job)})
        return summary_row(job, register_files(job.pair.fixed, job.pair.moving, job.folder, order, None))
    except InputError as error:
        return failure(job, str(error), time.perf_counter() - start)
    except Exception as error:
        return failure(job, f"unexpected {type(error).__name__}: {error}", time.perf_counter() - start)


def summary_row(job: Job, result: dict[str, Any], message: str = "") -> Outcome:
    """The row of a pair from what result.json holds."""
    status, _, why = result["status"].partition(": ")
    known = {name: result.get(name) for name in ("similarity", "confidence", "seconds")}
    return {"id": job.pair.id, "status": status, **known, "message": why or message}


def failure(job: Job, why: str, seconds: float | None = None) -> Outcome:
    """The row of a pair without a result. What an earlier run left of it would be taken for this one's: it goes."""
    remove_results(job.folder)
    took = None if seconds is None else round(seconds, 3)
    row = {"id": job.pair.id, "status": "failed", "similarity": None, "confidence": None, "seconds": took}
    return row | {"message": without_names(job, why)}


def without_names(job: Job, words: str) -> str:
    """A message with its files called by their columns: names of files may be names of patients."""
    roles = {
        str(place): role for role, path in files(job).items() for place in (path, with_choices(path, None, None)[0])
    }
    for place in sorted(roles, key=len, reverse=True):
        words = re.sub(re.escape(place) + r"(?:[\\/][^:]*)?", roles[place], words)
    return without_paths(" ".join(words.split()))


def files(job: Job) -> dict[str, pathlib.Path]:
    """The files of a job by column, those only that it has."""
    pair = job.pair
    own = {"fixed": pair.fixed, "moving": pair.moving, "fixed_mask": pair.fixed_mask, "moving_mask": pair.moving_mask}
    start = None if job.order.initial in STARTS_BY_NAME else pathlib.Path(job.order.initial)
    return {role: path for role, path in {**own, "initial": start}.items() if path is not None}


def finished(job: Job) -> Outcome | None:
    """The row of a pair whose folder holds a result of the same inputs and options that did not fail."""
    try:
        result = json.loads((job.folder / "result.json").read_text(encoding="utf-8"))
        if result[MARK] != mark(job) or result["status"].startswith("failed"):
            return None
        return summary_row(job, result, DONE_BEFORE)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def mark(job: Job) -> str:
    """A digest of the contents of a job's files and of its options; the same wherever the files lie."""
    digest = hashlib.sha256()
    named = files(job)
    options = {k: str(v) for k, v in asdict(job.order).items() if k not in (*NOT_OF_THE_RESULT, *named)}
    digest.update(json.dumps([version("medmi"), options, repr(as_preset(job.order.preset))]).encode())
    for role, path in named.items():
        place, series, volume = with_choices(path, None, None)
        digest.update(json.dumps([role, series, volume]).encode())
        for file in [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()):
            digest.update(contents(file))
    return digest.hexdigest()


NOT_OF_THE_RESULT = ("threads", "noted", "fixed_mask", "moving_mask")


def contents(file: pathlib.Path) -> bytes:
    """Digest of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.digest()


def write_summary(folder: pathlib.Path, jobs: Sequence[Job], done: dict[str, Outcome]) -> None:
    """The rows so far, in the order of the table, in one step."""
    with replacing(folder / SUMMARY, ".csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(done[job.pair.id] for job in jobs if job.pair.id in done)
