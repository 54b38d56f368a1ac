"""Calibrates the confidence on some patients and reports how it does on others.

Run it from a checkout as ``python examples/benchmarks/confidence.py DATA`` with the folder of real images; about twenty minutes
on one core. The measurements of every run are kept in ``--rows``, so that ``--reuse`` fits and reports at once. ``--write`` puts
the coefficients into ``medmi/registration/calibration.py`` and the plot into ``docs/reliability.png``.

A run is *right* when its mean error over the foreground (Otsu) of the fixed image is under 2 mm, or under twice the geometric mean of
its spacing. Where the patient moved between the two scans, a run whose error is over the limit by no more than that is *undecided*: it is
left out of the fit, and all is printed with such runs, without them, and without simulated ultrasound too. Patients are split in two
halves: coefficients come from one, what is printed from the other; and once from both halves, each judged by coefficients fitted to the
other.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import pathlib
import platform
import time
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
from confidence_cases import Case, drawn, made_failures, make, moved_mm
from confidence_plot import EDGES, draw_plot
from scipy.optimize import lsq_linear, minimize
from scipy.special import expit
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from medmi import register
from medmi.registration.calibration import CONFIDENCE, ERROR, Reading
from medmi.registration.confidence import confidence_of, error_ratio_of, judge

Array = np.ndarray
Row = dict[str, Any]
ROOT = pathlib.Path(__file__).parents[2]
# Which way each measurement speaks for a right result: none may speak against what it means.
SIGNS = {
    "spread": -1,
    "fine_fall": 1,
    "relative_fall": 1,
    "lead": 1,
    "edge_fall": 1,
    "edge_lead": 1,
    "view": 1,
    "held": 1,
    "search": -1,
    "restart": -1,
}
RIDGE = 1.0


def run(case: Case, folder: pathlib.Path) -> Row:
    """Register a case and measure it."""
    made = make(case, folder)
    start = time.perf_counter()
    result = register(
        made.fixed,
        made.moving,
        transform=case.transform,
        similarity=case.similarity,
        initial=case.initial,
        seed=case.seed,
    )
    registered = time.perf_counter()
    judgement = judge(result._evidence)  # the measurements themselves, which a result does not show
    itk = result.transform.to_sitk()
    found = np.array([itk.TransformPoint(p) for p in made.points.tolist()])
    words = {name: value for name, value in asdict(case).items() if name not in ("fixed", "moving")}
    return words | {
        "status": result.status,
        "error": float(np.linalg.norm(found - made.truth, axis=1).mean()),
        "limit": result.error_limit_mm,
        "measurements": dict(judgement.measurements),
        "rivals": float(judgement.rivals.probabilities.sum()),
        "seconds": [registered - start, time.perf_counter() - registered],
    }


def collect(folder: pathlib.Path, count: int, rows: pathlib.Path) -> None:
    """Run every case; one line of JSON each."""
    warnings.simplefilter("ignore")
    with rows.open("w") as out:
        for kind, cases in (("natural", drawn(count, 1)), ("made", made_failures(2))):
            for case in cases:
                print(json.dumps({"kind": kind} | run(case, folder)), file=out, flush=True)


def right(rows: list[Row]) -> Array:
    return np.array([row["error"] < row["limit"] for row in rows])


def decided(rows: list[Row]) -> list[Row]:
    """The rows whose truth is known well enough to call them right or wrong."""
    return [row for row in rows if not 0 <= row["error"] - row["limit"] <= moved_mm(row["patient"], row["pair"])]


def scanned(rows: list[Row]) -> list[Row]:
    """The decided rows of two scans."""
    return [row for row in decided(rows) if "ultrasound" not in row["pair"]]


# What is judged, of one half of the patients and of both.
CHOICES = {
    "all runs": list,
    "without the undecided": decided,
    "without the undecided and simulated ultrasound": scanned,
}


def table(rows: list[Row]) -> Array:
    """Measurements ``(N, M)`` in the order of ``SIGNS``, each with the sign that speaks for a right result."""
    return np.array([[sign * row["measurements"][name] for name, sign in SIGNS.items()] for row in rows])


def fit(rows: list[Row]) -> tuple[Reading, Reading]:
    """Logistic regression of being right, and least squares of the logarithm of error over limit; ridge, signs kept."""
    x, y = table(rows), right(rows)
    middle, scale = x.mean(0), x.std(0) + 1e-9
    z = (x - middle) / scale

    def loss(w: Array) -> tuple[float, Array]:
        score = z @ w[1:] + w[0]
        slope = expit(score) - y
        value = float((np.logaddexp(0, score) - y * score).sum() + RIDGE / 2 * (w[1:] ** 2).sum())
        return value, np.append(slope.sum(), z.T @ slope + RIDGE * w[1:])

    start, bounds = np.zeros(1 + x.shape[1]), [(None, None)] + [(0, None)] * x.shape[1]
    odds = minimize(loss, start, jac=True, bounds=bounds).x
    ratio = np.log(np.array([max(row["error"] / row["limit"], 0.01) for row in rows]))
    ridge = np.diag(np.append(0, np.full(x.shape[1], RIDGE**0.5)))
    system = np.concatenate([np.column_stack([np.ones(len(z)), -z]), ridge])
    goal = np.append(ratio, np.zeros(len(ridge)))
    error = lsq_linear(system, goal, (np.append(-np.inf, np.zeros(x.shape[1])), np.inf)).x
    return reading(odds, middle, scale, 1), reading(error, middle, scale, -1)


def reading(w: Array, middle: Array, scale: Array, way: int) -> Reading:
    """Standardised coefficients as those of the measurements themselves; those of no weight are left out."""
    weights = way * w[1:] / scale
    kept = {name: float(round(sign * v, 4)) for (name, sign), v in zip(SIGNS.items(), weights) if abs(v) > 5e-4}
    return Reading(float(round(w[0] - weights @ middle, 4)), kept)


def confidences(rows: list[Row], confidence: Reading) -> Array:
    return np.array([confidence_of(row["measurements"], row["rivals"], confidence) for row in rows])


def expected_errors(rows: list[Row], error: Reading) -> Array:
    return np.array([row["limit"] * error_ratio_of(row["measurements"], error) for row in rows])


def interval(patients: Array, truth: Array, confidence: Array) -> tuple[float, float]:
    """95% of the areas under the ROC curve when patients are drawn anew, with replacement."""
    rng, names = np.random.default_rng(0), np.unique(patients)
    groups = {name: np.flatnonzero(patients == name) for name in names}
    areas = []
    for _ in range(2000):
        index = np.concatenate([groups[name] for name in rng.choice(names, len(names))])
        if 0 < truth[index].sum() < len(index):
            areas.append(roc_auc_score(truth[index], confidence[index]))
    return float(np.quantile(areas, 0.025)), float(np.quantile(areas, 0.975))


def report(rows: list[Row], confidence: Array, expected: Array) -> None:
    """Print how well the confidence tells right from wrong."""
    truth, errors = right(rows), np.array([row["error"] for row in rows])
    patients = np.array([row["patient"] for row in rows])
    low, high = interval(patients, truth, confidence)
    print(f"{len(rows)} runs of {len(set(patients))} patients, {int((~truth).sum())} natural failures")
    area = roc_auc_score(truth, confidence)
    print(f"area under the ROC curve {area:.3f} (95% by patient: {low:.3f} to {high:.3f})")
    print(f"Brier score {np.mean((confidence - truth) ** 2):.3f}")
    print(f"Spearman of expected_error_mm and the true error {spearmanr(expected, errors).statistic:.3f}")
    factor = np.abs(np.log(expected / errors))
    print(
        f"expected over true error: half within a factor {np.exp(np.median(factor)):.2f}, 90% within {np.exp(np.quantile(factor, 0.9)):.1f}"
    )


def report_crossed(halves: list[list[Row]]) -> None:
    """Print the same over both halves of the patients, each judged by the coefficients that the other gives."""
    readings = [fit(decided(half)) for half in reversed(halves)]
    for title, choose in CHOICES.items():
        chosen = [choose(half) for half in halves]
        confidence = [confidences(half, own[0]) for half, own in zip(chosen, readings)]
        expected = [expected_errors(half, own[1]) for half, own in zip(chosen, readings)]
        print(f"\nboth halves, each by the other's, {title}: ", end="")
        report([row for half in chosen for row in half], np.concatenate(confidence), np.concatenate(expected))


def report_parts(rows: list[Row], confidence: Array, expected: Array) -> None:
    """Print the reliability table, and how the confidence does on every kind of case."""
    truth, errors = right(rows), np.array([row["error"] for row in rows])
    print(f"\n{'confidence':>14} {'runs':>5} {'mean':>6} {'right':>6} {'median error mm':>16} {'median expected':>16}")
    for first, last in itertools.pairwise(EDGES):
        inside = (confidence >= first) & ((confidence < last) | (last == 1))
        if inside.any():
            medians = np.median(errors[inside]), np.median(expected[inside])
            print(
                f"{first:6.1f} to {last:4.1f} {inside.sum():5d} {confidence[inside].mean():6.2f} {truth[inside].mean():6.2f} "
                f"{medians[0]:16.2f} {medians[1]:16.2f}"
            )
    for key in ("pair", "spoil", "motion", "transform", "similarity"):
        print(f"\n{key:22} {'runs':>5} {'right':>6} {'confidence':>11} {'area':>6}")
        for name in dict.fromkeys(str(row[key]) for row in rows):
            mine = np.array([str(row[key]) == name for row in rows])
            both = 0 < truth[mine].sum() < mine.sum()
            own = f"{roc_auc_score(truth[mine], confidence[mine]):6.3f}" if both else "     -"
            print(f"{name:22} {mine.sum():5d} {truth[mine].mean():6.2f} {confidence[mine].mean():11.2f} {own}")


def report_made(rows: list[Row], confidence: Array) -> None:
    """Print how the confidence does on failures that were made."""
    print(f"\n{'made failures':22} {'runs':>5} {'wrong':>6} {'highest':>8} {'median confidence of the wrong':>31}")
    truth = right(rows)
    for name in dict.fromkeys(row["pair"] for row in rows):
        mine = np.array([row["pair"] == name for row in rows])
        wrong = confidence[mine & ~truth]
        most, middle = (f"{f(wrong):.2f}" if len(wrong) else "-" for f in (np.max, np.median))
        print(f"{name:22} {mine.sum():5d} {len(wrong):6d} {most:>8} {middle:>31}")


def write_calibration(readings: tuple[Reading, Reading], path: pathlib.Path) -> None:
    """Replace the two coefficient rows of the calibration module."""
    text = path.read_text()
    for name, row in zip(("CONFIDENCE", "ERROR"), readings):
        head, _, tail = text.partition(f"{name} = Reading(")
        rest = tail.partition("\n)\n")[2]
        weights = "".join(f'            "{key}": {value},\n' for key, value in row.weights.items())
        text = f"{head}{name} = Reading(\n    {row.intercept},\n    MappingProxyType(\n        {{\n{weights}        }}\n    ),\n)\n{rest}"
    path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=1240)
    parser.add_argument("--rows", type=pathlib.Path, default=pathlib.Path("confidence.jsonl"))
    parser.add_argument("--reuse", action="store_true", help="take the rows as they are")
    parser.add_argument("--write", action="store_true", help="store the coefficients and the plot")
    options = parser.parse_args()
    if not options.reuse:
        collect(options.data, options.runs, options.rows)
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    patients = sorted({row["patient"] for row in rows})
    calibrating, natural = set(patients[::2]), [row for row in rows if row["kind"] == "natural"]
    fitted = [row for row in natural if row["patient"] in calibrating]
    readings = fit(decided(fitted)) if options.write else (CONFIDENCE, ERROR)
    tested = [row for row in natural if row["patient"] not in calibrating]
    made = [row for row in rows if row["kind"] == "made" and row["patient"] not in calibrating]
    print(f"{datetime.date.today()}  {platform.machine()} {platform.system()}, Python {platform.python_version()}")
    took = np.median([row["seconds"] for row in natural], axis=0)
    print(f"median seconds: registration {took[0]:.2f}, judgement {took[1]:.2f}")
    for title, choose in CHOICES.items():
        chosen = choose(tested)
        print(f"\n{title}: ", end="")
        report(chosen, confidences(chosen, readings[0]), expected_errors(chosen, readings[1]))
    report_crossed([fitted, tested])
    tested = decided(tested)
    confidence, expected = confidences(tested, readings[0]), expected_errors(tested, readings[1])
    report_parts(tested, confidence, expected)
    report_made(made, confidences(made, readings[0]))
    if options.write:
        write_calibration(readings, ROOT / "medmi" / "registration" / "calibration.py")
        errors = np.array([row["error"] for row in tested])
        draw_plot(right(tested), errors, confidence, expected, ROOT / "docs" / "reliability.png")


if __name__ == "__main__":
    main()
