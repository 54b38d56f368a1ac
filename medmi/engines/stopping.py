"""Validation during training: the error in mm of a generator on held-out pairs, and the end when it no longer falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmi.engines.adversarial import AdversarialRegistrationTrainer
from medmi.grid import Grid
from medmi.networks.registration import PairGenerator
from medmi.validation import InputError

__all__ = ["EarlyStop", "error_mm"]


@torch.no_grad()
def error_mm(generator: PairGenerator, batches: Sequence[Mapping[str, Tensor]], grid: Grid, passes: int = 1) -> float:
    """Mean distance in mm between found and true T over all pairs and the fixed voxels whose value is above the mean.

    Args:
        generator: runs in evaluation mode, and is left in the mode it had.
        batches: with ``fixed``, ``moving`` and ``truth``, as :class:`medmi.engines.batches.PairBatches` makes them.
        grid: where fixed and moving lie.
        passes: of the generator.
    """
    if not batches:
        raise InputError("batches: none came; at least one is asked")
    training = generator.training
    generator.eval()
    device = next(generator.parameters()).device
    points = grid.points().reshape(-1, grid.spatial_dims)
    points = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], 1).to(device)
    errors = []
    for batch in batches:
        fixed, moving, truth = (batch[name].to(device) for name in ("fixed", "moving", "truth"))
        ends = [points @ m.mT for m in (generator.transform(fixed, moving, grid, passes=passes), truth)]
        found, true = (end[..., :-1] / end[..., -1:] for end in ends)
        flat = fixed.flatten(1)
        inside = (flat > flat.mean(1, keepdim=True)).double()
        errors.append(((found - true).norm(dim=-1) * inside).sum(1) / inside.sum(1).clamp_min(1))
    generator.train(training)
    return float(torch.cat(errors).mean())


class EarlyStop:
    """Measures ``state.metrics["error_mm"]`` after each epoch and ends training when it has not fallen for a while.

    The least error and its epoch are MONAI's ``state.best_metric`` and ``state.best_metric_epoch``, which checkpoints
    keep.

    Args:
        batches: held-out batches.
        patience: epochs without a new least error before the end.
        passes: of the generator.

    Raises:
        InputError: patience under 1.
    """

    def __init__(self, batches: Sequence[Mapping[str, Tensor]], patience: int, passes: int = 1) -> None:
        if patience < 1:
            raise InputError(f"patience: {patience!r} came; at least 1 is asked")
        self.batches, self.patience, self.passes = batches, patience, passes

    def attach(self, engine: AdversarialRegistrationTrainer) -> None:
        """Register with a trainer, as MONAI's handlers do."""
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: AdversarialRegistrationTrainer) -> None:
        error = error_mm(engine.players.generator, self.batches, engine.grid, self.passes)
        engine.state.metrics["error_mm"] = error
        if engine.state.best_metric_epoch < 0 or error < engine.state.best_metric:
            engine.state.best_metric, engine.state.best_metric_epoch = error, engine.state.epoch
        elif engine.state.epoch - engine.state.best_metric_epoch >= self.patience:
            engine.terminate()
