"""The part of a training configuration that names patients and their images."""

from __future__ import annotations

from dataclasses import dataclass

from medmi.validation import InputError, choose

SIMULATIONS = {"none": False, "ultrasound": True}


@dataclass(frozen=True)
class PairFiles:
    """The images of one patient, aligned by their headers; paths are relative to the configuration's folder.

    Attributes:
        fixed: an image file.
        moving: the other modality; None where it is simulated.
        registered: whether they really are aligned. Of a patient whose images are not, pairs are never registered
            examples and no truth is known: they play against the discriminator alone.
    """

    fixed: str
    moving: str | None = None
    registered: bool = True


@dataclass(frozen=True)
class DataConfig:
    """What is trained and validated on; keep every patient in one of the two.

    Attributes:
        train: patients.
        validation: other patients.
        simulate: ``none``, or ``ultrasound`` where moving images are simulated from the fixed ones.
        modalities: of fixed and moving images, as written into the network file.
        slices: whether a 2D network takes the slices of 3D images.
        crop: for the simulation, the most that is cut off each side of an image, a share.

    Raises:
        InputError: no patients, none of them registered, validation patients who are not, a missing moving image, or
            one that the simulation would never read.
    """

    train: tuple[PairFiles, ...]
    validation: tuple[PairFiles, ...]
    simulate: str = "none"
    modalities: tuple[str, str] = ("fixed", "moving")
    slices: bool = False
    crop: float = 0.15

    def __post_init__(self) -> None:
        simulated = choose(self.simulate, SIMULATIONS, "simulate")
        for name in ("train", "validation"):
            patients = getattr(self, name)
            if not patients:
                raise InputError(f"{name}: no patients came; at least one is asked")
            for number, files in enumerate(patients):
                if simulated == (files.moving is not None):
                    reason = "is missing" if files.moving is None else "would not be read, as simulate is given"
                    raise InputError(f"{name}[{number}]: the moving image {reason}; fixed is {files.fixed}")
        if not self.registered:
            raise InputError("train: no registered patient came; at least one is asked, as an example")
        for number, files in enumerate(self.validation):
            if not files.registered:
                raise InputError(f"validation[{number}]: registered: false came; errors need patients who are")
        shared = {files.fixed for files in self.train} & {files.fixed for files in self.validation}
        if shared:
            raise InputError(f"validation: {min(shared)} is trained on too; keep every patient in one of the two")

    @property
    def registered(self) -> tuple[PairFiles, ...]:
        """Patients to train on whose images are aligned."""
        return tuple(files for files in self.train if files.registered)

    @property
    def unregistered(self) -> tuple[PairFiles, ...]:
        """Patients to train on whose images are not."""
        return tuple(files for files in self.train if not files.registered)
