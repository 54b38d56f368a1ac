"""Neural estimates of mutual information from samples: critics trained on a bound, read on pairs they have not seen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from medmi.information.bounds import BOUNDS
from medmi.information.critic_training import CriticTrainer, CriticTraining
from medmi.information.pairs import derangements
from medmi.information.readout import Estimate, held_out_scores, read
from medmi.networks.critics import ImagePairCritic, ImageValuesCritic, StatisticsNetwork
from medmi.threads import one_thread
from medmi.validation import InputError, choose

__all__ = ["CriticTraining", "Estimate", "MutualInformationNeuralEstimator"]

LEAST_PAIRS = 20


class MutualInformationNeuralEstimator:
    """Mutual information I(x; y) = E_P[log dP/dQ] of samples, by critics trained on a variational bound.

    The training bound and the read-out are apart: whatever the bound, ``value`` is mutual information from the
    critics' log density ratio on pairs that they have not been trained on; ``divergence`` is the bound's own value
    there.

    ``fit`` standardises the inputs (per feature or channel; the scaling is kept), splits the pairs into folds at
    random and trains one critic on each, with early stopping on a part of that fold. ``estimate`` on other arrays
    scores them by the mean of all critics. On the very arrays of ``fit`` it scores each fold by the critics of the
    other folds (cross-fitting), so that this estimate is honest too; a part of those arrays, or a copy in another
    order, is not recognised.

    Args:
        bound: ``dv``, ``mine`` (dv with a moving-average gradient), ``nwj``, ``jsd``, ``hellinger``, ``chi2``,
            ``infonce`` or ``smile``: rows of :data:`medmi.information.bounds.BOUNDS`.
        critic: module called with x ``(N, ...)`` and y ``(N, ...)`` that gives ``(N,)``; copied for each fold. None: a
            :class:`~medmi.networks.critics.StatisticsNetwork` for vectors, an ``ImagePairCritic`` for two images, an
            ``ImageValuesCritic`` for an image and a vector.
        batch_size: pairs of a training step. None: 512, or 64 for a bound trained on all pairs of the batch (InfoNCE,
            whose own value never exceeds the logarithm of the batch size).
        seed: of everything random; the same seed gives the same numbers on the same machine.
        training: further settings of training.
        progress: show a bar.

    Raises:
        InputError: unknown bound, batch size under 2.

    Source: Belghazi et al. 2018, "Mutual Information Neural Estimation"; cross-fitting as in Chernozhukov et al. 2018.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(1000, 1, generator=generator)
    >>> y = 0.8 * x + 0.6 * torch.randn(1000, 1, generator=generator)  # the truth is 0.511 nat
    >>> training = CriticTraining(steps=200)
    >>> estimate = MutualInformationNeuralEstimator("jsd", training=training).fit(x, y).estimate(x, y)
    >>> estimate.low < 0.511 < estimate.high
    True
    """

    def __init__(
        self,
        bound: str = "mine",
        critic: nn.Module | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        training: CriticTraining | None = None,
        progress: bool = False,
    ) -> None:
        self.row = choose(bound, BOUNDS, "bound")
        if batch_size is not None and batch_size < 2:
            raise InputError(f"batch_size: {batch_size!r} came; at least 2 is asked")
        self.bound, self.critic, self.seed, self.progress = bound, critic, seed, progress
        self.batch_size = batch_size or (64 if self.row.all_pairs else 512)
        self.training = training or CriticTraining()
        self.critics: list[nn.Module] = []
        self.history: list[list[float]] = []

    def fit(self, x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> MutualInformationNeuralEstimator:
        """Train on x ``(N, d)`` or ``(N, C, *spatial)`` and y likewise; the estimator itself.

        ``history`` then holds each fold's validation values (nat), the first from before training.

        Raises:
            InputError: unlike N, too few pairs, values that are not finite, shapes that no default critic takes.
        """
        x, y = _tensor(x, "x"), _tensor(y, "y")
        folds = self.training.folds
        _check_samples(x, y, least=LEAST_PAIRS * folds)
        generator = torch.Generator().manual_seed(self.seed)
        self._scaling = _scaling(x), _scaling(y)
        self._fitted = x, y
        self._parts = torch.randperm(len(x), generator=generator).tensor_split(folds)
        x, y = self._scaled(x, y)
        self.critics, self.history = [], []
        trainer = CriticTrainer(self.row, self.batch_size, self.training, generator)
        # Evaluation loops switch gradients off, and a critic is trained inside one all the same.
        bar = _bar(f"{self.bound} critics", folds * self.training.steps, self.progress)
        with torch.enable_grad(), _threads(x, y), bar as advance:
            for fold, part in enumerate(self._parts):
                start = fold * self.training.steps
                critic, history = trainer.train(
                    self._new_critic(x, y, self.seed + fold),
                    x[part.to(x.device)],
                    y[part.to(y.device)],
                    lambda done, start=start: advance(start + done),  # type: ignore[misc]
                )
                self.critics.append(critic)
                self.history.append(history)
            advance(folds * self.training.steps)
        return self

    def estimate(
        self, x: Tensor | np.ndarray, y: Tensor | np.ndarray, num_derangements: int = 20, confidence: float = 0.95
    ) -> Estimate:
        """Mutual information of pairs that the critics have not seen, or cross-fitted of those of ``fit``.

        Args:
            x: ``(N, ...)`` as in ``fit``.
            y: ``(N, ...)`` as in ``fit``.
            num_derangements: sets of marginal pairs averaged over.
            confidence: of the interval [low, high].

        Raises:
            InputError: not fitted, shapes unlike those of ``fit``, too few pairs, values that are not finite,
                confidence not in (0, 1).
        """
        if not self.critics:
            raise InputError("estimate: the estimator has no critics yet; call fit first")
        if not 0 < confidence < 1:
            raise InputError(f"confidence: {confidence!r} came; a number between 0 and 1 is asked")
        x, y = _tensor(x, "x"), _tensor(y, "y")
        _check_samples(x, y, least=LEAST_PAIRS)
        for name, given, fitted in zip("xy", (x, y), self._fitted):
            if given.shape[1:] != fitted.shape[1:]:
                raise InputError(
                    f"{name}: shape {tuple(given.shape)} came; (N, ...) as in fit's {tuple(fitted.shape)} is asked"
                )
        generator = torch.Generator().manual_seed(self.seed)
        count = max(num_derangements, self.batch_size - 1) if self.row.all_pairs else num_derangements
        with _threads(x, y):
            parts = [self._part(*ends, critics, count, generator) for ends, critics in self._held_out(x, y)]
        negatives = self.batch_size - 1 if self.row.all_pairs else count
        count = min(len(marginal) for _, marginal in parts)
        return read(self.row, [(j, m[:count]) for j, m in parts], negatives, confidence, generator)

    def _held_out(self, x: Tensor, y: Tensor) -> Iterator[tuple[tuple[Tensor, Tensor], list[nn.Module]]]:
        """Scaled pairs, each set with the critics that were not trained on it."""
        cross = all(torch.equal(given, fitted) for given, fitted in zip((x, y), self._fitted))
        x, y = self._scaled(x, y)
        if not cross:
            yield (x, y), self.critics
            return
        for fold, part in enumerate(self._parts):
            others = [critic for k, critic in enumerate(self.critics) if k != fold]
            yield (x[part.to(x.device)], y[part.to(y.device)]), others

    @staticmethod
    def _part(
        x: Tensor, y: Tensor, critics: list[nn.Module], count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        pairing = derangements(len(x), min(count, len(x) - 1), generator)
        scores = [held_out_scores(critic, x, y, pairing) for critic in critics]
        return torch.stack([s[0] for s in scores]).mean(0), torch.stack([s[1] for s in scores]).mean(0)

    def _scaled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        (x_mean, x_std), (y_mean, y_std) = self._scaling
        return ((x - x_mean) / x_std).float(), ((y - y_mean) / y_std).float()

    def _new_critic(self, x: Tensor, y: Tensor, seed: int) -> nn.Module:
        if self.critic is not None:
            return copy.deepcopy(self.critic).to(x.device).requires_grad_(True)
        # Layers draw their start from the CPU's global generator: seeded for them alone, and put back.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return _default_critic(x, y).to(x.device)


def _threads(x: Tensor, y: Tensor) -> AbstractContextManager[None]:
    """One thread for vectors, whose small layers gain nothing from more; as many as there are for images."""
    return one_thread() if x.ndim == y.ndim == 2 else nullcontext()


def _default_critic(x: Tensor, y: Tensor) -> nn.Module:
    table: dict[tuple[bool, bool], Callable[[], nn.Module]] = {
        (False, False): lambda: StatisticsNetwork(x.shape[1], y.shape[1]),
        (True, True): lambda: ImagePairCritic(x.ndim - 2, x.shape[1], y.shape[1]),
        (True, False): lambda: ImageValuesCritic(x.ndim - 2, x.shape[1], y.shape[1]),
    }
    images = x.ndim > 2, y.ndim > 2
    if images not in table or (all(images) and x.ndim != y.ndim):
        raise InputError(
            f"critic: none is known for x {tuple(x.shape)} with y {tuple(y.shape)}; give one, or put the image first"
        )
    return table[images]()


def _tensor(samples: Tensor | np.ndarray, name: str) -> Tensor:
    tensor = torch.as_tensor(samples)
    if tensor.ndim < 2:
        raise InputError(f"{name}: shape {tuple(tensor.shape)} came; (N, d) or (N, C, *spatial) is asked")
    return tensor.detach() if tensor.is_floating_point() else tensor.detach().double()


def _check_samples(x: Tensor, y: Tensor, least: int) -> None:
    if len(x) != len(y):
        raise InputError(f"y: {len(y)} samples came with {len(x)} of x; they are pairs and must agree")
    if len(x) < least:
        raise InputError(f"x: {len(x)} pairs came; at least {least} are asked")
    for name, samples in (("x", x), ("y", y)):
        if not bool(samples.isfinite().all()):
            raise InputError(f"{name}: values that are not finite came; leave those samples out")


def _scaling(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per feature or channel, the latter 1 where it is nothing."""
    axes = [0, *range(2, samples.ndim)]
    variance, mean = torch.var_mean(samples.double(), axes, keepdim=True)
    std = torch.where(variance.sqrt() > 1e-12 * mean.abs(), variance.sqrt(), 1)
    return mean, std


@contextmanager
def _bar(title: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    from rich.progress import Progress

    with Progress(disable=not shown) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
