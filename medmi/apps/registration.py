"""``medmi register`` and ``medmi apply``: files in, a result folder or an image out."""

from __future__ import annotations

import pathlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from monai.data import MetaTensor

from medmi.apps.output import as_json, result_folder
from medmi.apps.picture import save_comparison
from medmi.apps.report import ImageSummary, ReportData, write_report
from medmi.grid import Grid
from medmi.io import read_image, write_image, write_transform
from medmi.io.dicom_results import write_dicom_results
from medmi.registration import RegistrationResult, apply, register
from medmi.registration.inputs import as_image
from medmi.registration.result import moved_image
from medmi.spatial import LinearTransform


@dataclass(frozen=True)
class Order:
    """The options of ``medmi register``, as :func:`medmi.register` takes them."""

    transform: str = "rigid"
    similarity: str = "mi"
    initial: str = "auto"
    preset: str | None = None
    fixed_mask: pathlib.Path | None = None
    moving_mask: pathlib.Path | None = None
    seed: int = 0
    threads: int = 1
    device: str | None = None
    dicom_out: bool = False


def register_files(
    fixed: pathlib.Path,
    moving: pathlib.Path,
    folder: pathlib.Path,
    order: Order,
    progress: Callable[[float], None] | None,
) -> dict[str, Any]:
    """Register two files and fill the result folder; the summary that went into result.json."""
    sources = (fixed, moving) if order.dicom_out else None
    return register_images(read_image(fixed), read_image(moving), folder, order, progress, sources)


def register_images(
    fixed: MetaTensor,
    moving: MetaTensor,
    folder: pathlib.Path,
    order: Order,
    progress: Callable[[float], None] | None,
    dicom_sources: tuple[pathlib.Path, pathlib.Path] | None = None,
) -> dict[str, Any]:
    """Register two images and fill the result folder; the summary that went into result.json.

    Where ``dicom_sources`` names the two DICOM series, the folder ``dicom`` of the results holds them as DICOM objects.
    """
    with result_folder(folder) as work:
        result = register(
            fixed,
            moving,
            transform=order.transform.split(","),
            similarity=order.similarity,
            fixed_mask=order.fixed_mask,
            moving_mask=order.moving_mask,
            initial=order.initial,
            preset=order.preset,
            device=order.device,
            seed=order.seed,
            progress=progress or False,
            threads=order.threads,
        )
        summary = summarise(result, order)
        if not result.failed:
            write_transform(result.transform, work / transform_name(result), fixed_grid=result.fixed_grid)
            write_image(result.moved, work / "moved.nii.gz")
            if dicom_sources is not None:
                write_dicom_results(result.transform, result.moved, *dicom_sources, work / "dicom")
        (work / "result.json").write_text(as_json(summary))
        _illustrate(fixed, moving, result, summary, work)
    return summary


def transform_name(result: RegistrationResult) -> str:
    """``transform.tfm`` for what ITK holds as a matrix, ``transform.h5`` for a field."""
    linear = isinstance(result.transform, LinearTransform) and result.transform.family != "homography"
    return "transform.tfm" if linear else "transform.h5"


def summarise(result: RegistrationResult, order: Order) -> dict[str, Any]:
    """What result.json holds: plain values, no names of files or patients."""
    summary: dict[str, Any] = {
        "status": result.status,
        "transform": order.transform,
        "similarity_term": order.similarity,
        "similarity": result.similarity,
        "overlap": result.overlap,
        "seconds": round(result.seconds, 3),
        "evaluations": len(result.history),
        "seed": order.seed,
        "initial": order.initial if "." not in order.initial else "file",
        "versions": {name: version(name) for name in ("medmi", "torch", "monai", "SimpleITK")}
        | {"python": platform.python_version()},
    }
    if isinstance(result.transform, LinearTransform):
        summary["matrix_ras"] = result.transform.matrix.tolist()
    if result.confidence is not None:
        summary |= {"confidence": result.confidence, "expected_error_mm": result.expected_error_mm}
    return summary


def _illustrate(
    fixed: MetaTensor, moving: MetaTensor, result: RegistrationResult, summary: dict[str, Any], work: pathlib.Path
) -> None:
    """The picture and the report."""
    start = before(fixed, moving)
    save_comparison(fixed, start, start if result.failed else result.moved, work / "comparison.png")
    grids = (("fixed", result.fixed_grid), ("moving", Grid.of(moving)))
    data = ReportData(
        status=result.status,
        seconds=result.seconds,
        images=tuple(ImageSummary(role, grid.shape, tuple(grid.spacing.tolist())) for role, grid in grids),
        parameters={name: summary[name] for name in ("transform", "similarity_term", "initial", "seed")},
        matrix=tuple(map(tuple, summary["matrix_ras"])) if "matrix_ras" in summary and not result.failed else None,
        similarity=result.similarity,
        overlap=result.overlap,
        history=tuple((int(row["level"]), row["similarity"]) for row in result.history),
        versions=summary["versions"],
        confidence=result.confidence,
        expected_error_mm=result.expected_error_mm,
    )
    write_report(data, work / "report.html", work / "comparison.png")


def apply_file(
    moving: pathlib.Path, transform: pathlib.Path, reference: pathlib.Path, out: pathlib.Path, interpolation: str
) -> None:
    """Carry a file through a transform file onto the reference's grid and write it."""
    write_image(apply(moving, transform, reference, interpolation), out)


def before(fixed: MetaTensor, moving: MetaTensor) -> MetaTensor:
    """The moving image on the fixed grid as its header says it lies."""
    dims = fixed.ndim - 1
    identity = LinearTransform.from_parameters(torch.zeros(dims, dtype=torch.float64), "translation")
    return moved_image(as_image(moving, "moving"), identity, Grid.of(fixed))
