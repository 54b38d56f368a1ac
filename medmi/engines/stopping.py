"""Validation during training: the error in mm of a generator on held-out pairs, and the end when it no longer falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmi.engines.adversarial import AdversarialRegistrationTrainer
from medmi.grid import Grid
from medmi.networks.registration import PairGenerator
from medmi.networks.registration_judge import Judge
from medmi.networks.registration_passes import passed_poses
from medmi.validation import InputError

__all__ = ["EarlyStop", "error_mm", "pose_errors_mm"]


@torch.no_grad()
def pose_errors_mm(
    generator: PairGenerator,
    batches: Sequence[Mapping[str, Tensor]],
    grids: tuple[Grid, Grid],
    passes: int = 1,
    judge: Judge | None = None,
) -> Tensor:
    """Error in mm of each pair before the first pass and after each: mean distance between found and true poses.

    The mean runs over the fixed voxels whose value is above the image's mean.

    Args:
        generator: runs in evaluation mode, and is left in the mode it had.
        batches: as :class:`medmi.engines.batches.PairBatches` makes them.
        grids: the network's, and that of the sources.
        passes: of the generator.
        judge: where there is one, the last row is of the poses that it chooses.

    Returns:
        ``(passes + 1, pairs)`` float64; with a judge one row more.

    Raises:
        InputError: no batches.
    """
    if not batches:
        raise InputError("batches: none came; at least one is asked")
    training = generator.training
    generator.eval()
    device = next(generator.parameters()).device
    points = grids[0].points().reshape(-1, grids[0].spatial_dims)
    points = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], 1).to(device)
    errors = []
    for batch in batches:
        fixed, source, start, truth = (batch[name].to(device) for name in ("fixed", "source", "start", "truth"))
        poses = passed_poses(generator, fixed, source, start, grids, passes)
        poses = [start, *poses, *([] if judge is None else [judge.chosen(generator, fixed, source, poses, grids)])]
        flat = fixed.flatten(1)
        inside = (flat > flat.mean(1, keepdim=True)).double()
        true = mapped(points, start @ truth)
        distances = torch.stack([(mapped(points, pose) - true).norm(dim=-1) for pose in poses])
        errors.append((distances * inside).sum(2) / inside.sum(1).clamp_min(1))
    generator.train(training)
    return torch.cat(errors, 1).cpu()


def mapped(points: Tensor, matrices: Tensor) -> Tensor:
    """Homogeneous points ``(N, d + 1)`` under world matrices ``(B, d + 1, d + 1)``, ``(B, N, d)``."""
    ends = points @ matrices.mT
    return ends[..., :-1] / ends[..., -1:]


def error_mm(
    generator: PairGenerator, batches: Sequence[Mapping[str, Tensor]], grids: tuple[Grid, Grid], passes: int = 1
) -> float:
    """Mean of :func:`pose_errors_mm` over all pairs after the last pass."""
    return float(pose_errors_mm(generator, batches, grids, passes)[-1].mean())


class EarlyStop:
    """Measures ``state.metrics["error_mm"]`` after each epoch and ends training when it has not fallen for a while.

    The least error and its epoch are MONAI's ``state.best_metric`` and ``state.best_metric_epoch``, which checkpoints
    keep.

    Args:
        batches: held-out batches.
        patience: epochs without a new least error before the end; None: training never ends so.
        passes: of the generator.

    Raises:
        InputError: patience under 1.
    """

    def __init__(self, batches: Sequence[Mapping[str, Tensor]], patience: int | None, passes: int = 1) -> None:
        if patience is not None and patience < 1:
            raise InputError(f"patience: {patience!r} came; at least 1 is asked")
        self.batches, self.patience, self.passes = batches, patience, passes

    def attach(self, engine: AdversarialRegistrationTrainer) -> None:
        """Register with a trainer, as MONAI's handlers do."""
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: AdversarialRegistrationTrainer) -> None:
        error = error_mm(engine.players.generator, self.batches, (engine.grid, engine.source_grid), self.passes)
        engine.state.metrics["error_mm"] = error
        if engine.state.best_metric_epoch < 0 or error < engine.state.best_metric:
            engine.state.best_metric, engine.state.best_metric_epoch = error, engine.state.epoch
        elif self.patience is not None and engine.state.epoch - engine.state.best_metric_epoch >= self.patience:
            engine.terminate()
