"""medmi: multimodal registration for MONAI, with transforms that SimpleITK and 3D Slicer read back exactly."""

from medmi.grid import Grid
from medmi.registration import RegistrationResult, apply, register, register_batch
from medmi.validation import InputError

__version__ = "0.1.0"

__all__ = ["Grid", "InputError", "RegistrationResult", "apply", "register", "register_batch"]
