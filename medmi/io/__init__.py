"""Images and transforms in and out: every file's own frame and convention ends here; inside is RAS mm."""

from medmi.io.dicom import list_series
from medmi.io.dicom_registration import write_spatial_registration
from medmi.io.dicom_registration_reader import read_spatial_registration
from medmi.io.dicom_results import write_dicom_results
from medmi.io.dicom_series_writer import write_derived_series
from medmi.io.images import from_sitk, read_image, to_sitk, write_image
from medmi.io.suv import standardized_uptake_value
from medmi.io.transforms import read_transform, write_transform

__all__ = [
    "from_sitk",
    "list_series",
    "read_image",
    "read_spatial_registration",
    "read_transform",
    "standardized_uptake_value",
    "to_sitk",
    "write_derived_series",
    "write_dicom_results",
    "write_image",
    "write_spatial_registration",
    "write_transform",
]
