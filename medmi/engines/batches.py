"""Batches for adversarial training: every sample is a function of seed, step and place, so that runs can be resumed.

A batch is a dictionary of explicit pairs: ``fixed`` and ``moving``, out of place by the inverse of ``truth``;
``registered_fixed`` and ``registered_moving``, in place. Images are ``(B, 1, *grid)``, truths ``(B, d + 1, d + 1)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from medmi.engines.ranks import generator_of, rank_and_size
from medmi.simulation.augmentation import Augmentation
from medmi.simulation.pairs import TrainingPairs
from medmi.validation import InputError

__all__ = ["Aligned", "PairBatches"]


class Aligned(Protocol):
    """Aligned pairs by number: ``{"fixed": (1, *fixed), "moving": (1, *moving)}``."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Tensor]: ...


class PairBatches:
    """An endless stream of batches, ``length`` of them an epoch, drawn with replacement from aligned pairs.

    The registered examples are of other draws than the unregistered ones. In a distributed run each rank makes its
    own part of the batch: the same samples come, whatever the number of ranks.

    Args:
        aligned: a sequence of aligned pairs.
        pairs: what puts them out of place.
        batch_size: samples in a batch, over all ranks; with n_critic discriminator steps, a multiple of it.
        length: batches in an epoch.
        seed: of all draws.
        augmentation: changes each image before it is moved; None: as they are.

    Raises:
        InputError: no pairs, a count under 1, or a batch size that the ranks cannot share evenly.
    """

    def __init__(
        self,
        aligned: Aligned,
        pairs: TrainingPairs,
        batch_size: int,
        length: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        for name, count in (("aligned", len(aligned)), ("batch_size", batch_size), ("length", length)):
            if count < 1:
                raise InputError(f"{name}: {count} came; at least 1 is asked")
        ranks = rank_and_size()[1]
        if batch_size % ranks:
            raise InputError(f"batch_size: {batch_size} came; a multiple of the {ranks} ranks is asked")
        self.aligned, self.pairs, self.augmentation = aligned, pairs, augmentation
        self.batch_size, self.length, self.seed = batch_size, length, seed
        self.step = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            self.step += 1
            yield self.batch(self.step - 1)

    def state_dict(self) -> dict[str, int]:
        """The number of the next batch."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a stored number."""
        self.step = int(state["step"])

    def batch(self, step: int) -> dict[str, Tensor]:
        """This rank's part of batch number ``step``."""
        rank, ranks = rank_and_size()
        samples = [self._sample(step, place) for place in range(rank, self.batch_size, ranks)]
        return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self, step: int, place: int) -> dict[str, Tensor]:
        generator = generator_of(self.seed, step, place)
        fixed, moving = self._drawn(generator)
        registered_fixed, registered_moving = self._drawn(generator)
        moving, truth = self.pairs.unregistered(moving, generator)
        registered = self.pairs.registered(registered_moving, generator)
        return {
            "fixed": fixed,
            "moving": moving,
            "truth": truth,
            "registered_fixed": registered_fixed,
            "registered_moving": registered,
        }

    def _drawn(self, generator: torch.Generator) -> list[Tensor]:
        index = int(torch.randint(len(self.aligned), (), generator=generator))
        images = [self.aligned[index][name].as_subclass(torch.Tensor)[None].float() for name in ("fixed", "moving")]
        return images if self.augmentation is None else [self.augmentation(i, generator) for i in images]
