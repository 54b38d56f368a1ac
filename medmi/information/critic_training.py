"""Training of one critic on pairs: stochastic ascent of a bound, averaged weights, early stopping."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medmi.information.bounds import Bound, MovingAverage
from medmi.information.pairs import all_pairs, derangements, score_pairs
from medmi.validation import InputError

__all__ = ["CriticTrainer", "CriticTraining"]

CHECK_EVERY = 25
VALIDATION_DERANGEMENTS = 4
GRADIENT_NORM = 5.0


@dataclass(frozen=True)
class CriticTraining:
    """How the critics of an estimator are trained.

    Attributes:
        folds: critics, each trained on its own part of the pairs.
        steps: most iterations of one critic.
        learning_rate: peak of the one-cycle schedule (Adam); lower it to 1e-3 for convolutional critics.
        marginals: re-pairings of each batch; None: 2, or all pairs of the batch where the bound asks for them
            (InfoNCE).
        validation: share of a fold's pairs kept for early stopping.
        patience: validations (one in 25 steps) without a better value after which training stops.

    Raises:
        InputError: a value outside its range.
    """

    folds: int = 2
    steps: int = 500
    learning_rate: float = 5e-3
    marginals: int | None = None
    validation: float = 0.2
    patience: int = 8

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("steps", 1), ("marginals", 1), ("patience", 1)):
            number = getattr(self, name)
            if number is not None and number < least:
                raise InputError(f"training.{name}: {number!r} came; at least {least} is asked")
        if not 0 < self.validation < 1:
            raise InputError(f"training.validation: {self.validation!r} came; a share between 0 and 1 is asked")
        if not self.learning_rate > 0:
            raise InputError(f"training.learning_rate: {self.learning_rate!r} came; a positive number is asked")


class CriticTrainer:
    """Raises a bound on paired samples.

    Marginal pairs change y in one step and x in the next. For InfoNCE, whose optimum is free up to a function of what
    is kept, this leaves log r up to a constant.

    Args:
        bound: the row of the table.
        batch_size: pairs of a step, where so many are left for training.
        training: settings.
        generator: draws batches and derangements; on the CPU.
    """

    def __init__(self, bound: Bound, batch_size: int, training: CriticTraining, generator: torch.Generator) -> None:
        self.bound, self.batch_size, self.training, self.generator = bound, batch_size, training, generator

    def train(
        self, critic: nn.Module, x: Tensor, y: Tensor, advance: Callable[[int], None] = lambda steps: None
    ) -> tuple[nn.Module, list[float]]:
        """The averaged critic that did best on pairs held out for validation, and its validation values (nat).

        Args:
            critic: trained in place; what is returned is a copy.
            x: ``(N, ...)``, in random order.
            y: ``(N, ...)``.
            advance: told the steps done at each validation.
        """
        held, training = max(2, round(self.training.validation * len(x))), self.training
        stopping = _EarlyStopping(critic, self.bound, (x[:held], y[:held]), training.patience, self.generator)
        x, y = x[held:], y[held:]
        optimiser = torch.optim.Adam(critic.parameters(), lr=training.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, training.learning_rate, total_steps=training.steps + 1, pct_start=0.1
        )
        average, batches = MovingAverage(), _Batches(len(x), min(self.batch_size, len(x)), self.generator)
        critic.train()
        for step in range(training.steps):
            index = batches.next().to(x.device)
            pairs = x.index_select(0, index), y.index_select(0, index)
            scores = score_pairs(critic, *pairs, self._pairing(len(index)), turned=step % 2 == 1)
            optimiser.zero_grad()
            (-self.bound.train_on(*scores, average)).backward()
            # Bounds with exponentials overflow now and then; such a batch teaches nothing.
            if torch.nn.utils.clip_grad_norm_(critic.parameters(), GRADIENT_NORM).isfinite():
                optimiser.step()
            schedule.step()
            stopping.follow(critic, step)
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == training.steps:
                advance(step + 1)
                if stopping.check():
                    break
        return stopping.best, stopping.history

    def _pairing(self, size: int) -> Tensor:
        if self.training.marginals is None and self.bound.all_pairs:
            return all_pairs(size)
        return derangements(size, min(self.training.marginals or 2, size - 1), self.generator)


class _Batches:
    """Index batches of a shuffled range, shuffled anew when used up."""

    def __init__(self, size: int, batch_size: int, generator: torch.Generator) -> None:
        self.size, self.batch_size, self.generator = size, batch_size, generator
        self.left = torch.empty(0, dtype=torch.long)

    def next(self) -> Tensor:
        if len(self.left) < self.batch_size:
            self.left = torch.randperm(self.size, generator=self.generator)
        batch, self.left = self.left[: self.batch_size], self.left[self.batch_size :]
        return batch


class _EarlyStopping:
    """The running average of a critic's weights, and the copy of it that did best on the validation pairs."""

    def __init__(
        self, critic: nn.Module, bound: Bound, pairs: tuple[Tensor, Tensor], patience: int, generator: torch.Generator
    ) -> None:
        self.average = copy.deepcopy(critic).eval().requires_grad_(False)
        self.best = copy.deepcopy(self.average)
        self.bound, self.pairs, self.patience = bound, pairs, patience
        count = min(VALIDATION_DERANGEMENTS, len(pairs[0]) - 1)
        self.pairing = derangements(len(pairs[0]), count, generator)
        self.history: list[float] = [self._value()]

    @torch.no_grad()
    def follow(self, critic: nn.Module, step: int) -> None:
        rate = max(0.02, 1 / (step + 1))
        torch._foreach_lerp_(list(self.average.parameters()), list(critic.parameters()), rate)
        for kept, newest in zip(self.average.buffers(), critic.buffers()):
            kept.copy_(newest)

    def check(self) -> bool:
        """Validate; whether to stop."""
        value = self._value()
        if value > max(self.history):
            self.best.load_state_dict(self.average.state_dict())
        self.history.append(value)
        return len(self.history) - 1 - self.history.index(max(self.history)) >= self.patience

    @torch.no_grad()
    def _value(self) -> float:
        both = [score_pairs(self.average, *self.pairs, self.pairing, turned) for turned in (False, True)]
        value = sum(float(self.bound.train_on(*scores, MovingAverage())) for scores in both) / 2
        return value if value == value else float("-inf")
