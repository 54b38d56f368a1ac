"""Checkpoints of adversarial training: everything that a run needs to go on bit for bit, and nothing that runs code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from medmi.engines.adversarial import AdversarialRegistrationTrainer
from medmi.engines.ranks import rank_and_size
from medmi.io.tensor_files import read_tensors
from medmi.validation import InputError

__all__ = ["Checkpoints", "load_checkpoint", "save_checkpoint"]

FORMAT = 1
PROGRESS = ("iteration", "epoch_length", "best_metric", "best_metric_epoch")
PARTS = (
    "generator", "generator_optimizer", "generator_schedule",
    "discriminator", "discriminator_optimizer", "discriminator_schedule", "companion",
)  # fmt: skip


def save_checkpoint(trainer: AdversarialRegistrationTrainer, path: str | os.PathLike[str]) -> None:
    """Write the run's state between two iterations; an existing file is replaced at once or not at all."""
    path = Path(path)
    state: dict[str, Any] = {
        "format": FORMAT,
        "options": asdict(trainer.options),
        "progress": {name: getattr(trainer.state, name) for name in PROGRESS},
        "batches": trainer.batches.state_dict() if hasattr(trainer.batches, "state_dict") else None,
    }
    for name in PARTS:
        part = getattr(trainer.players, name)
        state[name] = None if part is None else part.state_dict()
    unfinished = path.with_name(path.name + ".part")
    torch.save(state, unfinished)
    unfinished.replace(path)
    trainer.last_checkpoint = path


def load_checkpoint(trainer: AdversarialRegistrationTrainer, path: str | os.PathLike[str]) -> None:
    """Put a stored state into a trainer of the same networks and options, whose ``run`` then goes on from there.

    Raises:
        InputError: no such file, none of these checkpoints, other options, or networks of other shapes.
    """
    state = _read(Path(path))
    ours = asdict(trainer.options)
    other = [name for name in ours if state["options"].get(name) != ours[name]]
    if other:
        raise InputError(f"{path}: was trained with other {', '.join(other)}; {state['options']} are stored")
    for name in PARTS:
        part = getattr(trainer.players, name)
        if (part is None) != (state.get(name) is None):
            raise InputError(
                f"{path}: {name} is {'not ' if state.get(name) is None else ''}stored, unlike the trainer's"
            )
    for name in PARTS:
        part = getattr(trainer.players, name)
        if part is not None:
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise InputError(f"{path}: does not fit the trainer's {name}: {reason[:200]}") from error
    for name, value in state["progress"].items():
        setattr(trainer.state, name, value)
    # Completed epochs: a run that was stopped within one goes on within it.
    trainer.state.epoch = trainer.state.iteration // trainer.state.epoch_length
    if state["batches"] is not None:
        trainer.batches.load_state_dict(state["batches"])  # type: ignore[attr-defined]
    trainer.last_checkpoint = Path(path)


def _read(path: Path) -> dict[str, Any]:
    state = read_tensors(path, "checkpoint", "a checkpoint of a training")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path}: is no checkpoint of an adversarial training of format {FORMAT}")
    return state


class Checkpoints:
    """Writes ``checkpoint.pt`` every so many epochs and when training is stopped by Ctrl-C.

    Ctrl-C ends training after the iteration at hand, so that what is stored resumes bit for bit; a second one stops
    at once and stores nothing. In a distributed run the first rank writes.

    Args:
        folder: made where missing.
        every: epochs between two.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int = 1) -> None:
        if every < 1:
            raise InputError(f"every: {every!r} came; at least 1 is asked")
        self.folder, self.every = Path(folder), every
        self.path = self.folder / "checkpoint.pt"

    def run(self, trainer: AdversarialRegistrationTrainer) -> None:
        """``trainer.run()``, with checkpoints; a training that is complete already is left as it is.

        Raises:
            KeyboardInterrupt: after Ctrl-C, when the checkpoint is written.
        """
        from ignite.engine import Events

        self.folder.mkdir(parents=True, exist_ok=True)
        # Ignite would begin a complete run anew.
        if trainer.state.iteration > 0 and trainer.state.epoch >= trainer.state.max_epochs:
            return
        saving = trainer.add_event_handler(Events.EPOCH_COMPLETED(every=self.every), self._save)
        try:
            with _interrupts() as asked:
                stopping = trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: asked and e.terminate())
                try:
                    trainer.run()
                finally:
                    stopping.remove()
        finally:
            saving.remove()
        if asked:
            self._save(trainer)
            raise KeyboardInterrupt

    def _save(self, trainer: AdversarialRegistrationTrainer) -> None:
        if rank_and_size()[0] == 0:
            save_checkpoint(trainer, self.path)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the first SIGINT instead of raising; a second one raises."""
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
