"""``medmi register`` and ``medmi apply``: files in, a result folder or an image out."""

from __future__ import annotations

import pathlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from medmi import io, networks
from medmi.apps.output import as_json, result_folder
from medmi.apps.report import ImageSummary, ReportData, bounded, write_report
from medmi.grid import Grid
from medmi.image import AnyImage, Image
from medmi.io.images import load_image, write_image
from medmi.registration import RegistrationResult, register
from medmi.registration.inputs import NETWORK_SUFFIX, as_image
from medmi.registration.presets import as_preset
from medmi.registration.register import carry
from medmi.registration.result import moved_image
from medmi.spatial import LinearTransform
from medmi.validation import InputError


@dataclass(frozen=True)
class Order:
    """The options of ``medmi register``, as :func:`medmi.register` takes them; ``noted`` goes into result.json."""

    transform: str = "rigid"
    similarity: str | None = None
    initial: str = "auto"
    preset: str | None = None
    fixed_mask: pathlib.Path | None = None
    moving_mask: pathlib.Path | None = None
    seed: int = 0
    threads: int = 1
    device: str | None = None
    dicom_out: bool = False
    noted: Mapping[str, str] = field(default_factory=dict)


def register_files(
    fixed: pathlib.Path,
    moving: pathlib.Path,
    folder: pathlib.Path,
    order: Order,
    progress: Callable[[float], None] | None,
) -> dict[str, Any]:
    """Register two files and fill the result folder; the summary that went into result.json."""
    sources = (fixed, moving) if order.dicom_out else None
    return register_images(load_image(fixed), load_image(moving), folder, order, progress, sources)


def register_images(
    fixed: AnyImage,
    moving: AnyImage,
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
            io.write_transform(result.transform, work / transform_name(result), fixed_grid=result.fixed_grid)
            write_image(result.moved_image, work / "moved.nii.gz")
            if dicom_sources is not None:
                io.write_dicom_results(result.transform, result.moved_image, *dicom_sources, work / "dicom")
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
        "similarity_term": order.similarity or as_preset(order.preset).similarity,
        "similarity": result.similarity,
        "overlap": result.overlap,
        "seconds": round(result.seconds, 3),
        "evaluations": len(result.history),
        "seed": order.seed,
        "initial": kind_of_start(order.initial),
        "versions": {name: version(name) for name in ("medmi", "torch", "monai", "SimpleITK")}
        | {"python": platform.python_version()},
    }
    if isinstance(result.transform, LinearTransform):
        summary["matrix_ras"] = result.transform.matrix.tolist()
    return summary | judgement(result) | dict(order.noted)


def judgement(result: RegistrationResult) -> dict[str, Any]:
    """How far the result can be trusted, as result.json holds it; empty where the similarity does not let it be judged."""
    if result.confidence is None:
        return {}
    others = [
        {"probability": a.probability, "distance_mm": a.distance_mm, "matrix_ras": a.transform.matrix.tolist()}
        for a in result.alternatives
    ]
    return {
        "confidence": result.confidence,
        "expected_error_mm": result.expected_error_mm,
        "error_limit_mm": result.error_limit_mm,
        "alternatives": others,
    }


def trust(summary: Mapping[str, Any]) -> str:
    """What the one line of a command says about how far a result can be trusted, from result.json.

    >>> trust({"confidence": 0.972, "expected_error_mm": 0.84}), trust({})
    ('; confidence 97%, expected error 0.84 mm', '')
    """
    if summary.get("expected_error_mm") is None:
        return ""
    confidence = bounded(summary["confidence"])
    return f"; confidence {confidence:.0%}, expected error {summary['expected_error_mm']:.2g} mm"


def start_of(initial: str, network: pathlib.Path | None) -> str:
    """The solver's start from two options of which one may be given.

    Raises:
        InputError: both are given, or the network is no ``.pt`` file or cannot be read.
    """
    if network is None:
        return initial
    if initial != Order.initial:
        raise InputError(f"--network: came with --initial {initial}; give one of both")
    networks.RegistrationPredictor.load(network)
    if network.suffix != NETWORK_SUFFIX:
        raise InputError(f"--network: {network} does not end in {NETWORK_SUFFIX}; rename it")
    return str(network)


def kind_of_start(initial: str) -> str:
    """The start's name, or what kind of file it came from."""
    suffix = pathlib.Path(initial).suffix
    return "network" if suffix == NETWORK_SUFFIX else "file" if suffix else initial


def _illustrate(
    fixed: AnyImage, moving: AnyImage, result: RegistrationResult, summary: dict[str, Any], work: pathlib.Path
) -> None:
    """The picture and the report."""
    from medmi.apps.picture import save_comparison  # which brings matplotlib: what is refused need not wait for it

    start = before(fixed, moving)
    save_comparison(fixed, start, start if result.failed else result.moved_image, work / "comparison.png")
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
        error_limit_mm=result.error_limit_mm,
        alternatives=tuple((a.probability, a.distance_mm) for a in result.alternatives),
    )
    write_report(data, work / "report.html", work / "comparison.png")


def apply_file(
    moving: pathlib.Path, transform: pathlib.Path, reference: pathlib.Path, out: pathlib.Path, interpolation: str
) -> None:
    """Carry a file through a transform file onto the reference's grid and write it."""
    write_image(carry(moving, transform, reference, interpolation), out)


def before(fixed: AnyImage, moving: AnyImage) -> Image:
    """The moving image on the fixed grid as its header says it lies."""
    dims = fixed.ndim - 1
    identity = LinearTransform.from_parameters(torch.zeros(dims, dtype=torch.float64), "translation")
    return moved_image(as_image(moving, "moving"), identity, Grid.of(fixed))
