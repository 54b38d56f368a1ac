"""Rigid and affine registration by medmi and by the systems a user would take instead: error, success, seconds, memory.

    python examples/benchmarks/peers.py [--quick] [--pairs T1-PD,oblique] [--motions 10,45,180] [--seeds 3]
        [--systems medmi,elastix] [--families rigid,affine] [--spacing 1] [--threads 2] [--out docs/peers.md] [--rows FILE]

The folder of real images is named by MEDMI_TEST_DATA or ``--data``. All systems get the same images in memory, one after another in
this process; the first run of each is not counted. Peak memory is measured apart, in a process for each system and pair that
reads the two images from files. SimpleITK comes with medmi; ``pip install -c constraints.txt -e '.[bench]'`` brings the others.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import SimpleITK as sitk

# Before any library starts its threads: otherwise some take every core.
THREADS = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "2"
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[name] = THREADS

from peer_memory import memory_of, memory_of_torch  # noqa: E402
from peer_pairs import MOTIONS, PAIRS, Loaded, errors, load, motion, turn  # noqa: E402
from peer_systems import SYSTEMS, System  # noqa: E402
from peer_tables import Run, page  # noqa: E402

FAMILIES = {"rigid": 6, "affine": 12}
QUICK = {"pairs": "T1-PD,oblique", "motions": "10", "systems": "medmi,simpleitk", "families": "rigid", "seeds": 1}


@contextmanager
def silent() -> Iterator[None]:
    """Nothing reaches stdout, from compiled code either, which some systems print from whatever they are told."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def timed(system: System, fixed: Any, moving: Any, family: str, threads: int) -> tuple[np.ndarray | None, float, str]:
    """The map found, the seconds it took, and why there is none; whatever a system raises is a result."""
    began = time.perf_counter()
    try:
        with silent():
            found = system.register(fixed, moving, family, threads)
    except Exception as error:
        return None, time.perf_counter() - began, f"{type(error).__name__}: {error}"[:200]
    return found, time.perf_counter() - began, ""


def runs_of(pair: str, loaded: Loaded, options: argparse.Namespace) -> Iterator[Run]:
    """Every motion, seed and family of a pair by every system, the systems one after another on each."""
    fixed = {name: SYSTEMS[name].prepare(loaded.fixed) for name in options.systems}
    for turning in options.motions:
        for seed in range(options.seeds):
            truth = motion(loaded.moving, turning, seed)
            turned = turn(loaded.moving, truth)
            for family in options.families:
                for name in options.systems:
                    system = SYSTEMS[name]
                    found, seconds, failure = timed(
                        system, fixed[name], system.prepare(turned), family, options.threads
                    )
                    off = np.array([np.inf]) if found is None else errors(found, truth, loaded.points)
                    mean, p95 = float(off.mean()), float(np.percentile(off, 95))
                    ok = mean <= PAIRS[pair].limit_mm
                    yield Run(pair, turning, seed, family, name, mean, p95, seconds, ok, failure)


def warm_up(loaded: Loaded, options: argparse.Namespace) -> None:
    """The first call of every system and family: imports, compiled loops, caches."""
    for name in options.systems:
        system = SYSTEMS[name]
        for family in options.families:
            timed(system, system.prepare(loaded.fixed), system.prepare(loaded.moving), family, options.threads)


def memory(loaded: Loaded, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """By system: MiB of a process after the import and at the peak, registering the pair from files, turned by 10 degrees."""
    turned = turn(loaded.moving, motion(loaded.moving, "10", 0))
    with tempfile.TemporaryDirectory() as folder:
        fixed, moving = (pathlib.Path(folder) / f"{role}.nii" for role in ("fixed", "moving"))
        sitk.WriteImage(loaded.fixed, str(fixed))
        sitk.WriteImage(turned, str(moving))
        return {name: memory_of(name, fixed, moving, options.families[0], options.threads) for name in options.systems}


def processor() -> str:
    """Name of the processor, where the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def conditions(options: argparse.Namespace) -> str:
    """Date, machine, versions and settings, in a few lines of Markdown."""
    systems = [(name, SYSTEMS[name]) for name in options.systems]
    lines = [
        f"{datetime.date.today()}; {processor()}, {os.cpu_count()} cores, {options.threads} threads for every system; "
        f"python {platform.python_version()}, torch {version('torch')}. Images are in memory, the first call of each system is not "
        f"counted. {options.seeds} motion{'s' * (options.seeds > 1)} of each size; the moving header is turned about its middle "
        "and shifted by " + ", ".join(f"{MOTIONS[m][0]} degrees and {MOTIONS[m][1]} mm" for m in options.motions) + "."
    ]
    if options.spacing:
        lines.append(f"Both images of every pair are first resampled to voxels of {options.spacing:g} mm.")
    limits = ", ".join(f"{pair} {PAIRS[pair].limit_mm:g}" for pair in options.pairs)
    lines += ["", f"Limits of success, mean error in mm: {limits}.", ""]
    lines += [f"- {name} {version(system.package)}: {system.settings}" for name, system in systems]
    return "\n".join(lines)


def choices(text: str, known: Mapping[str, Any], option: str) -> list[str]:
    """Names with commas between, each a key of the table."""
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"{option}: unknown {', '.join(unknown)}; one of: {', '.join(known)}")
    return names


def parse() -> argparse.Namespace:
    """The command line; what is unknown or not there ends the program with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two pairs, one small motion, medmi and SimpleITK, rigid")
    parser.add_argument("--data", default=os.environ.get("MEDMI_TEST_DATA"), help="folder of real images")
    for name, table in (("pairs", PAIRS), ("motions", MOTIONS), ("systems", SYSTEMS), ("families", FAMILIES)):
        parser.add_argument(f"--{name}", default=",".join(table), help="names with commas between")
    parser.add_argument("--seeds", type=int, default=3, help="motions of each size")
    parser.add_argument("--spacing", type=float, help="mm: resample every image to it first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-memory", action="store_true", help="leave the memory out")
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write, after each pair anew")
    parser.add_argument("--rows", type=pathlib.Path, help="file that every run is added to, a line of JSON each")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(**vars(options) | QUICK)
    for name, table in (("pairs", PAIRS), ("motions", MOTIONS), ("systems", SYSTEMS), ("families", FAMILIES)):
        setattr(options, name, choices(getattr(options, name), table, f"--{name}"))
    if not options.data:
        sys.exit("--data: name the folder of real images, or set MEDMI_TEST_DATA")
    options.data = pathlib.Path(options.data)
    absent = [SYSTEMS[name].package for name in options.systems if SYSTEMS[name].missing()]
    if absent:
        sys.exit(
            f"--systems: {', '.join(absent)} not installed; pip install -c constraints.txt -e '.[bench]', or leave out"
        )
    return options


def main() -> None:
    options = parse()
    runs: list[Run] = []
    peaks: dict[tuple[str, str], tuple[float, float]] = {}
    torch_alone = float("nan") if options.no_memory else memory_of_torch()
    for pair in options.pairs:
        loaded = load(PAIRS[pair], options.data, options.spacing)
        if pair == options.pairs[0]:
            warm_up(loaded, options)
        for run in runs_of(pair, loaded, options):
            runs.append(run)
            print(
                f"{run.pair:14s} {run.motion:>4s} {run.family:7s} {run.system:10s} {run.mean:8.3f} mm {run.seconds:7.2f} s {run.failure}",
                flush=True,
            )
            if options.rows:
                with options.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(run)) + "\n")
        if not options.no_memory:
            peaks |= {(pair, name): found for name, found in memory(loaded, options).items()}
        text = page(runs, conditions(options), peaks, torch_alone)
        if options.out:
            options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
