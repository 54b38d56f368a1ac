"""Registration systems behind one call, each set up as its own documentation advises for two modalities; imported when asked for.

A system *prepares* an image (its own type, in memory, not timed) or *reads* it from a NIfTI file and then *registers* such a pair:
``register(fixed, moving, family, threads)`` with family ``rigid`` or ``affine`` gives the ``(4, 4)`` map from fixed to moving points
in LPS mm.
"""

from __future__ import annotations

import importlib.util
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import SimpleITK as sitk

Array = np.ndarray
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class System:
    """One system.

    Attributes:
        module: what must be importable.
        package: distribution whose version is shown.
        settings: said in the table.
        prepare: a SimpleITK image as the system's own.
        read: a file as the system's own image.
        register: see above.
    """

    module: str
    package: str
    settings: str
    prepare: Callable[[sitk.Image], Any]
    read: Callable[[str], Any]
    register: Callable[[Any, Any, str, int], Array]

    def missing(self) -> bool:
        """Whether it is not installed."""
        return importlib.util.find_spec(self.module) is None


def matrix_of(point_map: Callable[[list[float]], Sequence[float]]) -> Array:
    """The ``(4, 4)`` of an affine map of points, from where it sends the origin and the unit points."""
    origin = np.array(point_map([0.0, 0.0, 0.0]))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    for axis in range(3):
        matrix[:3, axis] = np.array(point_map(np.eye(3)[axis].tolist())) - origin
    return matrix


def medmi_prepare(image: sitk.Image) -> Any:
    from medmi.io import from_sitk

    return from_sitk(image)


def medmi_register(fixed: Any, moving: Any, family: str, threads: int) -> Array:
    from medmi import register

    found = register(fixed, moving, transform=family, threads=threads).transform
    return RAS_LPS @ found.matrix.numpy() @ RAS_LPS


def simpleitk_read(path: str) -> sitk.Image:
    import SimpleITK as sitk

    return sitk.ReadImage(path, sitk.sitkFloat32)


def simpleitk_register(fixed: sitk.Image, moving: sitk.Image, family: str, threads: int) -> Array:
    import SimpleITK as sitk

    start = {"rigid": sitk.Euler3DTransform, "affine": lambda: sitk.AffineTransform(3)}[family]()
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=200, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    centred = sitk.CenteredTransformInitializer(fixed, moving, start, sitk.CenteredTransformInitializerFilter.GEOMETRY)
    method.SetInitialTransform(centred, inPlace=False)
    return matrix_of(method.Execute(fixed, moving).TransformPoint)


def elastix_prepare(image: sitk.Image) -> Any:
    import itk
    import SimpleITK as sitk

    out = itk.image_from_array(sitk.GetArrayFromImage(image))
    out.SetOrigin(image.GetOrigin())
    out.SetSpacing(image.GetSpacing())
    out.SetDirection(itk.matrix_from_array(np.reshape(image.GetDirection(), (3, 3))))
    return out


def elastix_read(path: str) -> Any:
    import itk

    return itk.imread(path, itk.F)


def elastix_register(fixed: Any, moving: Any, family: str, threads: int) -> Array:
    import itk

    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap(family)
    settings["AutomaticTransformInitialization"] = ["true"]
    settings["WriteResultImage"] = ["false"]
    parameters.AddParameterMap(settings)
    method = itk.ElastixRegistrationMethod.New(fixed, moving)
    method.SetParameterObject(parameters)
    method.SetNumberOfThreads(threads)
    method.SetLogToConsole(False)
    method.UpdateLargestPossibleRegion()
    found = method.ConvertToItkTransform(method.GetCombinationTransform())
    return matrix_of(found.TransformPoint)


def ants_prepare(image: sitk.Image) -> Any:
    import ants
    import SimpleITK as sitk

    direction = np.reshape(image.GetDirection(), (3, 3))
    return ants.from_numpy(
        sitk.GetArrayFromImage(image).T, list(image.GetOrigin()), list(image.GetSpacing()), direction
    )


def ants_read(path: str) -> Any:
    import ants

    return ants.image_read(path)


def ants_register(fixed: Any, moving: Any, family: str, threads: int) -> Array:
    import ants

    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(
            fixed, moving, family.capitalize(), aff_metric="mattes", outprefix=str(pathlib.Path(folder) / "found")
        )
        return matrix_of(ants.read_transform(found["fwdtransforms"][0]).apply_to_point)


def greedy_register(fixed: Any, moving: Any, family: str, threads: int) -> Array:
    """Images or names of files."""
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    freedom = {"rigid": 6, "affine": 12}[family]
    files = isinstance(fixed, str)
    names, images = (f"{fixed} {moving}", {}) if files else ("fixed moving", {"fixed": fixed, "moving": moving})
    options = "-ia-image-centers -m NMI -n 100x50x10"
    greedy.execute(
        f"-d 3 -a -dof {freedom} -i {names} {options} -o found -threads {threads} -V 0", **images, found=None
    )
    return RAS_LPS @ np.array(greedy["found"]) @ RAS_LPS


def as_it_is(image: Any) -> Any:
    return image


SYSTEMS = {
    "medmi": System(
        "medmi",
        "medmi",
        "defaults: search over all rotations, mutual information",
        medmi_prepare,
        as_it_is,
        medmi_register,
    ),
    "simpleitk": System(
        "SimpleITK",
        "simpleitk",
        "as in its examples: centres of the grids, Mattes 50 bins, 10% random, 3 levels, 200 regular steps",
        as_it_is,
        simpleitk_read,
        simpleitk_register,
    ),
    "elastix": System(
        "itk",
        "itk-elastix",
        "default parameter map, automatic initialisation",
        elastix_prepare,
        elastix_read,
        elastix_register,
    ),
    "ants": System(
        "ants",
        "antspyx",
        "ants.registration, Mattes, its own start by centres of mass",
        ants_prepare,
        ants_read,
        ants_register,
    ),
    "greedy": System(
        "picsl_greedy", "picsl-greedy", "-a -m NMI -n 100x50x10 -ia-image-centers", as_it_is, as_it_is, greedy_register
    ),
}
