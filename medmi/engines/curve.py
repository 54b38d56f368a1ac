"""The curve of a training: one row of numbers after each epoch, as a table and for TensorBoard."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from medmi.engines.adversarial import AdversarialRegistrationTrainer
from medmi.validation import InputError

__all__ = ["Curve"]

COLUMNS = ("epoch", "iteration", "error_mm", "loss", "reconstruction_loss", "generator_loss", "discriminator_loss")


class Curve:
    """Appends to ``curve.csv`` after each epoch: the validation error in mm and the last iteration's losses.

    Rows from an epoch on that a resumed run makes again are dropped first.

    Args:
        folder: of the file; made where missing.
        tensorboard: whether to write the same as TensorBoard events into its folder ``tensorboard``.

    Raises:
        InputError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], tensorboard: bool = False) -> None:
        self.path = Path(folder) / "curve.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.writer = _writer(self.path.parent / "tensorboard") if tensorboard else None

    def attach(self, engine: AdversarialRegistrationTrainer) -> None:
        """Register with a trainer, after the handlers whose numbers it writes."""
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: AdversarialRegistrationTrainer) -> None:
        row: dict[str, float] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        numbers = {**engine.state.metrics, **engine.state.output}
        row |= {name: float(numbers[name]) for name in COLUMNS[2:] if name in numbers}
        rows = [old for old in self.rows() if int(old["epoch"]) < engine.state.epoch]
        unfinished = self.path.with_name(self.path.name + ".part")
        with unfinished.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows([*rows, row])
        unfinished.replace(self.path)
        if self.writer is not None:
            for name in row.keys() - {"epoch", "iteration"}:
                self.writer.add_scalar(name, row[name], engine.state.iteration)
            self.writer.flush()

    def rows(self) -> list[dict[str, str]]:
        """What is written so far."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("tensorboard: its package is missing; pip install 'medmi[tensorboard]'") from error
    return SummaryWriter(str(folder))
