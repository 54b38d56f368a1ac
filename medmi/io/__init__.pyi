from .dicom import list_series
from .dicom_registration import write_spatial_registration
from .dicom_registration_reader import read_spatial_registration
from .dicom_results import write_dicom_results
from .dicom_series_writer import write_derived_series
from .images import read_image, write_image
from .itk import from_sitk, to_sitk
from .suv import standardized_uptake_value
from .transforms import read_transform, write_transform

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
