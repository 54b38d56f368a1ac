"""The report of a registration: one HTML file that needs nothing else and names no patient.

Words: *role* is what an image was used for, fixed or moving. Names of files and folders never enter a report: they
may hold a patient's.
"""

from __future__ import annotations

import base64
import importlib.resources
import os
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import jinja2

from medmi.apps.chart import chart
from medmi.io.files import replacing
from medmi.validation import InputError

TONES = {"converged": "good", "max_iterations": "fair"}
A_FILE = "a file"
FROM_A_PATH_ON = re.compile(r"(?<![\w<])(?:[A-Za-z]:|~)?[\\/](?=\S).*", re.DOTALL)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class ImageSummary:
    """What a report says of an image: its role, voxels and spacing in mm along each tensor axis."""

    role: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class ReportData:
    """What a report shows, in plain values.

    Attributes:
        status: ``converged``, ``max_iterations`` or ``failed: why``.
        seconds: the registration took.
        images: fixed first.
        parameters: option to value, as they were used; a value that is a path is shown as "a file".
        matrix: ``d + 1`` rows, fixed world points to moving world points, RAS+ mm; None where the transform is not
            linear or none came.
        similarity: at the result, in the unit of its term.
        overlap: share of the fixed image inside the moving one, 0 to 1.
        history: ``(level, similarity)`` of each evaluation in order.
        timings: stage to seconds.
        versions: package to version.
        confidence: probability that the mean error over the foreground is under ``error_limit_mm``, 0 to 1; None, not shown,
            where it cannot be told.
        expected_error_mm: mean over the foreground; None as confidence.
        error_limit_mm: mean error over the foreground up to which a registration counts as right.
        alternatives: other optima, each its probability and its mean distance over the foreground in mm.
    """

    status: str
    seconds: float
    images: tuple[ImageSummary, ...]
    parameters: Mapping[str, object] = field(default_factory=dict)
    matrix: tuple[tuple[float, ...], ...] | None = None
    similarity: float | None = None
    overlap: float | None = None
    history: tuple[tuple[int, float], ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    confidence: float | None = None
    expected_error_mm: float | None = None
    error_limit_mm: float | None = None
    alternatives: tuple[tuple[float, float], ...] = ()


def write_report(data: ReportData, path: str | os.PathLike[str], picture: str | os.PathLike[str] | None = None) -> None:
    """Write a self-contained HTML page: no script, no link, nothing fetched.

    Args:
        data: what to show.
        path: the HTML file; written beside it first, then renamed.
        picture: a PNG to embed, as :func:`medmi.apps.picture.save_comparison` writes it.

    Raises:
        InputError: the picture is no PNG or cannot be read, or the file cannot be written.
    """
    page = render(data, None if picture is None else encoded(pathlib.Path(picture)))
    with replacing(path, ".html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(data: ReportData, picture: str | None = None) -> str:
    """The page as text; ``picture`` is a PNG in base64."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = number
    template = environment.from_string(
        importlib.resources.files("medmi.apps").joinpath("report.html.j2").read_text("utf-8")
    )
    data = replace(data, status=without_paths(data.status))
    return template.render(
        data=data,
        tone=TONES.get(data.status, "bad"),
        figures=figures(data),
        note=note(data),
        picture=picture,
        chart=chart(data.history),
        tables=tables(data),
    )


def figures(data: ReportData) -> list[tuple[str, str]]:
    """The few numbers on top, each only where it is known."""
    rows = [
        ("similarity", data.similarity, "{:.4g}"),
        ("overlap", data.overlap, "{:.0%}"),
        ("confidence", bounded(data.confidence), "{:.0%}"),
        ("expected error", data.expected_error_mm, "{:.2g} mm"),
        ("seconds", data.seconds, "{:.2f}"),
    ]
    return [(name, form.format(value)) for name, value, form in rows if value is not None]


def bounded(confidence: float | None) -> float | None:
    """A probability kept from rounding to a certainty that nothing has.

    >>> f"{bounded(0.9996):.0%}", f"{bounded(0.0004):.0%}", bounded(None)
    ('99%', '1%', None)
    """
    return None if confidence is None else min(max(confidence, 0.01), 0.99)


def note(data: ReportData) -> str | None:
    """What the confidence says, in one sentence; None where there is none."""
    if data.confidence is None or data.error_limit_mm is None:
        return None
    return (
        "Confidence is the estimated probability that the mean error over the foreground of the fixed image is under "
        f"{data.error_limit_mm:.1f} mm (2 mm, or twice its voxels). Look at the picture before you rely on it."
    )


def tables(data: ReportData) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title and rows of every table of names and values that has any."""
    every = [
        (
            "Other poses that fit",
            [(f"{away:.3g} mm away", f"probability {probability:.0%}") for probability, away in data.alternatives],
        ),
        ("Parameters", [(name, shown(value)) for name, value in data.parameters.items()]),
        ("Timings", [(name, f"{value:.2f} s") for name, value in data.timings.items()]),
        ("Versions", list(data.versions.items())),
    ]
    return [(title, rows) for title, rows in every if rows]


def shown(value: object) -> str:
    """A parameter's value as words; whatever is or looks like a path becomes "a file".

    >>> shown(0.25), shown("mi"), shown(None), shown("/data/Doe^John/ct.nii.gz"), shown(["rigid", "affine"])
    ('0.25', 'mi', 'none', 'a file', 'rigid, affine')
    """
    if isinstance(value, list | tuple):
        return ", ".join(shown(one) for one in value)
    if value is None:
        return "none"
    if isinstance(value, os.PathLike) or (isinstance(value, str) and re.search(r"[\\/]|\.[A-Za-z]\w{1,3}$", value)):
        return A_FILE
    return number(value) if isinstance(value, float) else str(value)


def without_paths(words: str) -> str:
    """A message with everything from its first path on replaced.

    >>> without_paths("failed: the overlap fell under 10%")
    'failed: the overlap fell under 10%'
    >>> without_paths("failed: /data/Doe^John/ct.nii.gz: constant image")
    'failed: a file'
    """
    return FROM_A_PATH_ON.sub(A_FILE, words)


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def encoded(picture: pathlib.Path) -> str:
    """A PNG file in base64."""
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise InputError(f"write_report: picture {picture.name} cannot be read ({error.strerror})") from error
    if not content.startswith(PNG_SIGNATURE):
        raise InputError(f"write_report: picture {picture.name} is no PNG file")
    return base64.b64encode(content).decode("ascii")
