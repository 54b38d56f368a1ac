"""A trained registration network with what it needs to be used: its architecture and the modalities it was trained on.

Words: a *network file* holds all of it and no code; images are laid on the network's own grid about the middle of the
fixed image, as in training.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medmi.grid import Grid
from medmi.io.tensor_files import read_tensors
from medmi.networks.registration import PairGenerator
from medmi.networks.registration_architecture import Architecture
from medmi.networks.registration_judge import Judge
from medmi.networks.registration_passes import passed_poses
from medmi.simulation.sources import block_means, source_of
from medmi.spatial.linear import LinearTransform, about
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError

__all__ = ["RegistrationPredictor", "StackedPairNetwork"]

FORMAT = "medmi registration network 1"


class RegistrationPredictor:
    """Gives the transform of an image pair in a few passes of a network.

    Args:
        generator: the trained network.
        architecture: that it was built from.
        modalities: of fixed and moving images, such as ``("T1", "US")``, for people to read.
        passes: how often the network runs; two are best where it was trained as here.
        judge: chooses among what the passes and candidates near them have found; None: the last pass is the answer. It may come from
            another training of the same architecture: that of an adversarial one judges a supervised network well.

    Raises:
        InputError: fewer than one pass.
    """

    def __init__(
        self,
        generator: PairGenerator,
        architecture: Architecture,
        modalities: tuple[str, str],
        passes: int = 2,
        judge: Judge | None = None,
    ) -> None:
        if passes < 1:
            raise InputError(f"passes: {passes!r} came; at least 1 is asked")
        self.generator, self.architecture, self.modalities, self.passes = generator, architecture, modalities, passes
        self.judge = judge

    @torch.no_grad()
    def __call__(self, fixed: MetaTensor, moving: MetaTensor) -> LinearTransform:
        """T of a pair, each ``(1, *spatial)`` with an affine; the headers must place them within reach of the network.

        Raises:
            InputError: images of another dimension, of several channels, or that are not finite.
        """
        dims = self.architecture.spatial_dims
        for role, image in (("fixed", fixed), ("moving", moving)):
            if image.ndim - 1 != dims:
                raise InputError(f"{role}: a {image.ndim - 1}D image came; this network is {dims}D")
        centre = Grid.of(fixed).centre
        pose = self._pose(*self._prepared(fixed, moving))
        matrix = about(centre) @ pose @ about(-centre)
        return LinearTransform(matrix, self.architecture.transform)

    def _pose(self, fixed: Tensor, moving: Tensor) -> Tensor:
        grids = (self.architecture.grid, self.architecture.source_grid)
        start = torch.eye(self.architecture.spatial_dims + 1, dtype=torch.float64)[None]
        seen = resample_replicated(fixed, grids[1], start, grids[0])
        self.generator.eval()
        device = next(self.generator.parameters()).device
        seen, moving = seen.to(device), moving.to(device)
        poses = passed_poses(self.generator, seen, moving, start.to(device), grids, self.passes)
        found = poses[-1] if self.judge is None else self.judge.chosen(self.generator, seen, moving, poses, grids)
        return found[0].cpu()

    def _prepared(self, fixed: MetaTensor, moving: MetaTensor) -> tuple[Tensor, Tensor]:
        """Both images on the source grid, ``(1, 1, *source)``, by the same means as training prepares them."""
        source = source_of(fixed, moving, self.architecture.fine_grid)
        first, second = (block_means(image, self.architecture.pool) for image in source.pair())
        return first[None, None], second[None, None]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a network file; an existing one is replaced at once or not at all."""
        path = Path(path)
        state = {
            "format": FORMAT,
            "architecture": asdict(self.architecture),
            "modalities": list(self.modalities),
            "passes": self.passes,
            "generator": self.generator.state_dict(),
        }
        if self.judge is not None:
            state |= {"candidates": self.judge.candidates, "discriminator": self.judge.discriminator.state_dict()}
        unfinished = path.with_name(path.name + ".part")
        torch.save(state, unfinished)
        unfinished.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RegistrationPredictor:
        """Read a network file.

        Raises:
            InputError: no such file, one that is damaged, is none of these or holds other weights than it says.
        """
        path = Path(path)
        state = _read(path)
        try:
            architecture = Architecture(**state["architecture"])
            generator = architecture.generator()
            generator.load_state_dict(state["generator"])
            fixed, moving = state["modalities"]
            names = (str(fixed), str(moving))
            return cls(generator.eval(), architecture, names, int(state["passes"]), _judge(state, architecture))
        except (InputError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: its weights do not fit what it says of them ({reason})") from error


class StackedPairNetwork(nn.Module):
    """A generator that takes both images as channels of one tensor, as MONAI's bundles have it.

    Args:
        generator: the network.
    """

    def __init__(self, generator: PairGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, images: Tensor) -> Tensor:
        """Parameters ``(B, t)`` in mm and rad of ``(B, 2, *spatial)``: the fixed image first, then the moving one.

        Raises:
            InputError: another number of channels.
        """
        if images.shape[1] != 2:
            raise InputError(f"images: shape {tuple(images.shape)} came; (B, 2, *spatial) is asked")
        return self.generator(images[:, :1], images[:, 1:])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StackedPairNetwork:
        """The network of a network file."""
        return cls(RegistrationPredictor.load(path).generator)


def _judge(state: Mapping[str, Any], architecture: Architecture) -> Judge | None:
    """The judge of a network file, if it has one."""
    if "discriminator" not in state:
        return None
    discriminator = architecture.discriminator()
    discriminator.load_state_dict(state["discriminator"])
    return Judge(discriminator.eval(), int(state["candidates"]))


def _read(path: Path) -> Mapping[str, Any]:
    state = read_tensors(path, "network file", "a network file that a training wrote")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        hint = "; a training's checkpoint.pt resumes it, network.pt registers" if isinstance(state, dict) else ""
        raise InputError(f"{path}: is no network file{hint}")
    return state
