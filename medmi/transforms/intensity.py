"""Transforms of voxel values: PET activity to SUV, and MR or CT to simulated ultrasound."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, TransformBackends

from medmi.io import standardized_uptake_value
from medmi.simulation.probe import Probe
from medmi.simulation.tissue import TissueModel
from medmi.simulation.ultrasound import simulate_ultrasound
from medmi.validation import InputError

__all__ = [
    "SimulateUltrasoundD",
    "SimulateUltrasoundDict",
    "SimulateUltrasoundd",
    "StandardizedUptakeValueD",
    "StandardizedUptakeValueDict",
    "StandardizedUptakeValued",
]


class StandardizedUptakeValued(MapTransform):
    """PET activity as standardised uptake values by body weight, g/ml; see :func:`medmi.io.standardized_uptake_value`.

    Dose, weight and times are read from the DICOM headers that the image's ``filename_or_obj`` leads to. Geometry,
    history and other metadata stay.

    Args:
        keys: PET images ``(C, *spatial)`` as MetaTensors, in the units of their DICOM series (Bq/ml).
        series: which series of the folder, as for :func:`medmi.io.read_image`.
        allow_missing_keys: whether keys that an item lacks are passed over.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, keys: KeysCollection, series: str | None = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.series = series

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its images in g/ml.

        Raises:
            InputError: an image has no file name, or its headers do not tell the SUV for certain.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            path = _meta(d[key], key, "StandardizedUptakeValued").meta.get(ImageMetaKey.FILENAME_OR_OBJ)
            if not path:
                raise InputError(f"StandardizedUptakeValued: {key!r} has no file name to find its DICOM headers by")
            d[key] = _with_values(d[key], standardized_uptake_value(d[key], path, self.series))
        return d


class SimulateUltrasoundd(MapTransform):
    """A B-mode image of what an MR or CT image shows, on its own grid; see :func:`medmi.simulation.ultrasound`.

    Deterministic: one seed gives one speckle, for every item the same. Where training asks for others, give each copy
    of this transform its own seed.

    Args:
        keys: MR or CT images ``(1, *spatial)`` as MetaTensors, replaced by their simulation.
        seed: of the speckle.
        probe: where the beams run.
        tissue: ``mr``, ``ct`` or a model of one's own.
        dynamic_range_db: of the logarithmic compression to 0..1; None gives the uncompressed envelope.
        allow_missing_keys: whether keys that an item lacks are passed over.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(
        self,
        keys: KeysCollection,
        seed: int = 0,
        probe: Probe | None = None,
        tissue: str | TissueModel = "mr",
        dynamic_range_db: float | None = 50.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.seed, self.probe, self.tissue, self.dynamic_range_db = seed, probe, tissue, dynamic_range_db

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with simulated images.

        Raises:
            InputError: see :func:`medmi.simulation.ultrasound.simulate_ultrasound`.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            image = _meta(d[key], key, "SimulateUltrasoundd")
            seen = simulate_ultrasound(image, self.seed, self.probe, self.tissue, self.dynamic_range_db)
            d[key] = _with_values(image, seen)
        return d


def _meta(image: Any, key: Hashable, caller: str) -> MetaTensor:
    if not isinstance(image, MetaTensor):
        raise InputError(f"{caller}: {key!r} is {type(image).__name__}; a MetaTensor (C, *spatial) is asked")
    return image


def _with_values(image: MetaTensor, values: MetaTensor) -> MetaTensor:
    """Other values with the image's own metadata and history."""
    return MetaTensor(values.as_tensor(), meta=dict(image.meta), applied_operations=list(image.applied_operations))


SimulateUltrasoundD = SimulateUltrasoundDict = SimulateUltrasoundd
StandardizedUptakeValueD = StandardizedUptakeValueDict = StandardizedUptakeValued
