"""MONAI transforms: registration, resampling and files in a pipeline; names and aliases follow MONAI's."""

from medmi.transforms.array import ApplyTransform, Register, RegistrationFailedError
from medmi.transforms.dictionary import (
    ApplyTransformD,
    ApplyTransformd,
    ApplyTransformDict,
    RegisterD,
    Registerd,
    RegisterDict,
)
from medmi.transforms.files import (
    LoadImagePairD,
    LoadImagePaird,
    LoadImagePairDict,
    SaveTransformD,
    SaveTransformd,
    SaveTransformDict,
)
from medmi.transforms.intensity import (
    SimulateUltrasoundD,
    SimulateUltrasoundd,
    SimulateUltrasoundDict,
    StandardizedUptakeValueD,
    StandardizedUptakeValued,
    StandardizedUptakeValueDict,
)

__all__ = [
    "ApplyTransform",
    "ApplyTransformD",
    "ApplyTransformDict",
    "ApplyTransformd",
    "LoadImagePairD",
    "LoadImagePairDict",
    "LoadImagePaird",
    "Register",
    "RegisterD",
    "RegisterDict",
    "Registerd",
    "RegistrationFailedError",
    "SaveTransformD",
    "SaveTransformDict",
    "SaveTransformd",
    "SimulateUltrasoundD",
    "SimulateUltrasoundDict",
    "SimulateUltrasoundd",
    "StandardizedUptakeValueD",
    "StandardizedUptakeValueDict",
    "StandardizedUptakeValued",
]
