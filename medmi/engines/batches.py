"""Batches for adversarial training: every sample is a function of seed, step and place, so that runs can be resumed.

A batch is a dictionary of explicit pairs: ``fixed`` and ``moving``, out of place by the inverse of ``truth``;
``source`` and ``start``, the aligned moving image and the pose at which ``moving`` shows it, so that whoever moves it
again resamples it once; ``registered_fixed`` and ``registered_moving``, in place. Images are ``(B, 1, *grid)``,
sources ``(B, 1, *source)``, poses and truths ``(B, d + 1, d + 1)``. Where the aligned pairs hold covers (1 where an
image shows something, else 0), so do batches: ``fixed_cover`` of ``fixed`` and ``source_cover`` of ``source``. Where
the aligned pairs say whether they are ``known``, so do batches, ``(B,)``; the truth of all others is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from medmi.engines.ranks import generator_of, rank_and_size
from medmi.engines.rolling import RollingPairs
from medmi.simulation.pairs import Poses, TrainingPairs
from medmi.simulation.views import Share
from medmi.validation import InputError

__all__ = ["PairBatches"]


class PairBatches:
    """An endless stream of batches, ``length`` of them an epoch, drawn with replacement from aligned pairs.

    The registered examples are of other draws than the unregistered ones. In a distributed run each rank makes its
    own part of the batch: the same samples come, whatever the number of ranks.

    Args:
        aligned: the buffer of aligned pairs.
        pairs: shows them out of place and in place.
        batch_size: samples in a batch, over all ranks; with n_critic discriminator steps, a multiple of it.
        length: batches in an epoch.
        seed: of all draws.
        registered: True: registered examples come from the same buffer; a buffer of their own, whose pairs are all
            known; False: none are made, as training without a discriminator needs none.

    Raises:
        InputError: a count under 1, or a batch size that the ranks cannot share evenly.
    """

    def __init__(
        self,
        aligned: RollingPairs,
        pairs: TrainingPairs,
        batch_size: int,
        length: int,
        seed: int = 0,
        registered: RollingPairs | bool = True,
    ) -> None:
        for name, count in (("batch_size", batch_size), ("length", length)):
            if count < 1:
                raise InputError(f"{name}: {count} came; at least 1 is asked")
        ranks = rank_and_size()[1]
        if batch_size % ranks:
            raise InputError(f"batch_size: {batch_size} came; a multiple of the {ranks} ranks is asked")
        self.aligned, self.pairs = aligned, pairs
        self.registered = aligned if registered is True else registered or None
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
        drawn, poses = self._drawn(self.aligned, step, 0)
        fixed, moving, shown = drawn["fixed"], drawn["moving"], self.pairs.shown
        batch = {
            "fixed": shown(fixed, poses.view),
            "moving": shown(moving, poses.start),
            "source": moving,
            "start": poses.start,
            "truth": poses.truth,
        }
        if "known" in drawn:
            batch["known"] = drawn["known"]
            # Blank, so that nothing downstream could learn from it.
            batch["truth"] = torch.where(drawn["known"][:, None, None] > 0, poses.truth, torch.nan)
        if "fixed_cover" in drawn:
            batch["fixed_cover"] = self.pairs.covered(drawn["fixed_cover"], poses.view)
            batch["source_cover"] = drawn["moving_cover"]
        if self.registered is not None:
            drawn, poses = self._drawn(self.registered, step, 1)
            fixed, moving = drawn["fixed"], drawn["moving"]
            batch |= {"registered_fixed": shown(fixed, poses.view), "registered_moving": shown(moving, poses.view)}
        return batch

    def _drawn(self, buffer: RollingPairs, step: int, role: int) -> tuple[dict[str, Tensor], Poses]:
        """This rank's aligned pairs and poses; the numbers are drawn for all ranks."""
        generator = generator_of(self.seed, step, role)
        shared = self.registered is self.aligned
        window = buffer.window(step * self.batch_size * (1 + shared))
        numbers = torch.randint(window.start, window.stop, (self.batch_size,), generator=generator)
        rank, ranks = rank_and_size()
        mine = [buffer.pair(int(number), window) for number in numbers[rank::ranks]]
        drawn = {name: torch.stack([pair[name] for pair in mine]).float() for name in mine[0]}
        return drawn, self.pairs.poses(drawn["fixed"], generator, Share(rank, ranks))
