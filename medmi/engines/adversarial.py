"""The adversarial trainer: a registration generator against a discriminator, on MONAI's AdversarialTrainer.

Words: a *step* moves one network once; an *iteration* is n_critic discriminator steps and one generator step, on one
batch of :class:`medmi.engines.batches.PairBatches`, cut into n_critic parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.engines.trainer import AdversarialTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import AdversarialIterationEvents as Events
from monai.utils.enums import AdversarialKeys, CommonKeys
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from medmi.engines.options import AdversarialOptions, Players
from medmi.engines.ranks import average_gradients, averaged, generator_of, rank_and_size
from medmi.grid import Grid
from medmi.losses.adversarial import DiscriminatorLoss, GeneratorLoss, clip_weights, gradient_penalty
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError

__all__ = ["AdversarialRegistrationTrainer", "Prediction", "TrainingDiverged", "supervised_loss"]

KEYS = ("fixed", "moving", "source", "start", "truth")
REGISTERED = ("registered_fixed", "registered_moving")


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite; the networks are as they were before that step."""


@dataclass(frozen=True)
class Prediction:
    """What a reconstruction loss sees: images ``(B, 1, *grid)``, the found and the true T ``(B, d + 1, d + 1)``.

    ``known`` ``(B,)`` is 1 where there is a truth and 0 where it is NaN; None: all are known.
    """

    fixed: Tensor
    moved: Tensor
    matrix: Tensor
    truth: Tensor
    known: Tensor | None = None


def supervised_loss(grid: Grid) -> Callable[[Prediction], Tensor]:
    """Mean distance in mm between where the found and the true T send a box's corners: a reconstruction loss.

    The box is half as long as the grid along each axis and has the same middle: its corners are about as far out as
    what images show, so that turns and shifts weigh as they do in the error over the foreground. Of a batch whose
    truths are known in part the mean runs over the known samples of all ranks, and is zero where there are none.
    """
    box = (grid.corners + grid.centre) / 2
    corners = torch.cat([box, torch.ones(len(box), 1, dtype=torch.float64)], 1)

    def distances(matrix: Tensor, truth: Tensor) -> Tensor:
        ends = [m @ corners.to(m.device).mT for m in (matrix, truth.to(matrix))]
        found, true = (end[:, :-1] / end[:, -1:] for end in ends)
        return ((found - true).square().sum(1) + 1e-12).sqrt()

    def loss(prediction: Prediction) -> Tensor:
        matrix, truth, known = prediction.matrix, prediction.truth, prediction.known
        if known is None:
            return distances(matrix, truth).mean()
        # A NaN would reach the gradient even where it weighs nothing.
        truth = torch.where(known[:, None, None] > 0, truth.to(matrix), matrix.detach())
        weight = known.to(matrix) / averaged(known.to(matrix).mean()).clamp_min(1e-6)
        return (weight[:, None] * distances(matrix, truth)).mean()

    return loss


def no_reconstruction(prediction: Prediction) -> Tensor:
    """Zero."""
    return prediction.moved.new_zeros(())


class AdversarialRegistrationTrainer(AdversarialTrainer):
    """Trains a generator so that a discriminator cannot tell its pairs from registered ones.

    Each iteration sets in ``state.output``, averaged over ranks: ``loss`` (what the generator minimised),
    ``generator_loss``, ``reconstruction_loss`` and ``discriminator_loss`` (without penalty), the last of its n_critic
    steps, with the scores and pairs they came from. All of MONAI's adversarial events and its iteration events fire.
    Under ``torch.distributed`` gradients are averaged over ranks, whose networks must start alike.

    Args:
        players: networks, optimisers and schedules.
        batches: dictionaries of :mod:`medmi.engines.batches`; its length is that of an epoch.
        grid: where fixed and moving images lie.
        max_epochs: how long to train.
        options: how the networks play.
        reconstruction: a further loss of the generator, from a :class:`Prediction` to a scalar; weighed by
            ``options.reconstruction_weight``. ``supervised_loss(grid)``, or a similarity of moved and fixed.
        handlers: MONAI handlers, of statistics for instance.
        source_grid: where the sources of the moving images lie; None: on ``grid``.

    Raises:
        InputError: players that do not suit the game.
        TrainingDiverged: in ``run``, a loss or gradient that is not finite; names the last checkpoint.
    """

    def __init__(
        self,
        players: Players,
        batches: Iterable[Mapping[str, Tensor]],
        grid: Grid,
        max_epochs: int,
        options: AdversarialOptions | None = None,
        reconstruction: Callable[[Prediction], Tensor] = no_reconstruction,
        handlers: Sequence[object] | None = None,
        source_grid: Grid | None = None,
    ) -> None:
        self.options = options or AdversarialOptions()
        players.check(self.options)
        self.players, self.grid, self.batches = players, grid, batches
        self.source_grid = source_grid or grid
        self.last_checkpoint: Path | None = None
        super().__init__(
            device=next(players.generator.parameters()).device,
            max_epochs=max_epochs,
            train_data_loader=batches,
            g_network=players.generator,
            g_optimizer=players.generator_optimizer,
            g_loss_function=GeneratorLoss(self.options.game),
            recon_loss_function=reconstruction,
            d_network=players.discriminator,
            d_optimizer=players.discriminator_optimizer,
            d_loss_function=DiscriminatorLoss(self.options.game),
            iteration_update=iterate,
            train_handlers=handlers,
            decollate=False,
        )


def iterate(engine: AdversarialRegistrationTrainer, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One iteration: n_critic discriminator steps and a generator step."""
    engine.state.output = {}
    engine.players.generator.train()
    engine.players.discriminator.train()
    parts = split(batch, engine.options.n_critic, engine.state.device, bool(engine.options.adversarial_weight))
    parts = [moved_once(engine, part) for part in parts]
    if engine.options.adversarial_weight:
        for number, part in enumerate(parts):
            discriminator_step(engine, part, number)
    generator_step(engine, parts[-1])
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


def split(batch: Mapping[str, Tensor], parts: int, device: torch.device, adversarial: bool) -> list[dict[str, Tensor]]:
    """The batch on the device, in equal parts, or an error; registered pairs are asked of adversarial training only."""
    keys = [*KEYS, *(key for key in REGISTERED if adversarial)]
    missing = [key for key in keys if key not in batch]
    if missing:
        raise InputError(f"batch: {', '.join(missing)} missing; it has {', '.join(map(str, batch))}")
    size = len(batch["fixed"])
    if size % parts:
        raise InputError(f"batch: {size} samples came; a multiple of n_critic={parts} is asked")
    # Neighbours stay together, so that the parts hold the same samples at any number of ranks.
    keys += [key for key in ("known",) if key in batch]
    chunks = {key: batch[key].to(device).chunk(parts) for key in keys}
    return [{key: chunks[key][part] for key in keys} for part in range(parts)]


@torch.no_grad()
def moved_once(engine: AdversarialRegistrationTrainer, part: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part with its first samples as the generator's first pass leaves them, and what is then still to be found."""
    count = round(engine.options.second_pass * len(part["fixed"]))
    if not count:
        return part
    fixed, moving, source, start, truth = (part[key] for key in KEYS)
    matrix = engine.players.generator.matrix(fixed[:count], moving[:count], engine.grid)
    start = torch.cat([start[:count] @ matrix, start[count:]])
    seen = resample_replicated(source[:count], engine.source_grid, start[:count], engine.grid)
    rest = torch.linalg.solve(matrix, truth[:count])
    found = {"moving": torch.cat([seen, moving[count:]]), "start": start, "truth": torch.cat([rest, truth[count:]])}
    return {**part, **found}


def predict(engine: AdversarialRegistrationTrainer, part: Mapping[str, Tensor]) -> Prediction:
    """The generator's transform, and the sources as it moves them."""
    fixed = part["fixed"]
    matrix = engine.players.generator.matrix(fixed, part["moving"], engine.grid)
    moved = resample_replicated(part["source"], engine.source_grid, part["start"] @ matrix, engine.grid)
    return Prediction(fixed, moved, matrix, part["truth"], part.get("known"))


def discriminator_step(engine: AdversarialRegistrationTrainer, part: Mapping[str, Tensor], number: int) -> None:
    """One step of the discriminator on one part of the batch."""
    options, players, output = engine.options, engine.players, engine.state.output
    with torch.no_grad():
        prediction = predict(engine, part)
    real, fake = (part["registered_fixed"], part["registered_moving"]), (prediction.fixed, prediction.moved)
    output[AdversarialKeys.REALS], output[AdversarialKeys.FAKES] = torch.cat(real, 1), torch.cat(fake, 1)
    players.discriminator_optimizer.zero_grad()
    output[AdversarialKeys.REAL_LOGITS] = players.discriminator(*real)
    engine.fire_event(Events.DISCRIMINATOR_REALS_FORWARD_COMPLETED)
    output[AdversarialKeys.FAKE_LOGITS] = players.discriminator(*fake)
    engine.fire_event(Events.DISCRIMINATOR_FAKES_FORWARD_COMPLETED)
    loss = engine.state.d_loss_function(output[AdversarialKeys.REAL_LOGITS], output[AdversarialKeys.FAKE_LOGITS])
    output[AdversarialKeys.DISCRIMINATOR_LOSS] = averaged(loss)
    engine.fire_event(Events.DISCRIMINATOR_LOSS_COMPLETED)
    if options.penalty:
        mixing = penalty_points(engine, len(real[0]), number)
        loss = loss + options.penalty * gradient_penalty(players.discriminator, real, fake, mixing)
    step(engine, "discriminator", loss, Events.DISCRIMINATOR_BACKWARD_COMPLETED)
    if options.clip is not None:
        clip_weights(players.discriminator, options.clip)
    engine.fire_event(Events.DISCRIMINATOR_MODEL_COMPLETED)


def generator_step(engine: AdversarialRegistrationTrainer, part: Mapping[str, Tensor]) -> None:
    """One step of the generator on one part of the batch."""
    options, players, output = engine.options, engine.players, engine.state.output
    players.generator_optimizer.zero_grad()
    prediction = predict(engine, part)
    output[CommonKeys.IMAGE], output[CommonKeys.LABEL] = prediction.fixed, prediction.truth
    output[CommonKeys.PRED] = prediction.matrix.detach()
    engine.fire_event(Events.GENERATOR_FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    adversarial = prediction.moved.new_zeros(())
    if options.adversarial_weight:
        scores = players.discriminator(prediction.fixed, prediction.moved)
        engine.fire_event(Events.GENERATOR_DISCRIMINATOR_FORWARD_COMPLETED)
        adversarial = engine.state.g_loss_function(scores)
    reconstruction = engine.state.recon_loss_function(prediction)
    output[AdversarialKeys.RECONSTRUCTION_LOSS] = averaged(reconstruction)
    engine.fire_event(Events.RECONSTRUCTION_LOSS_COMPLETED)
    output[AdversarialKeys.GENERATOR_LOSS] = averaged(adversarial)
    engine.fire_event(Events.GENERATOR_LOSS_COMPLETED)
    loss = options.adversarial_weight * adversarial + options.reconstruction_weight * reconstruction
    output[CommonKeys.LOSS] = averaged(loss)
    engine.fire_event(IterationEvents.LOSS_COMPLETED)
    step(engine, "generator", loss, Events.GENERATOR_BACKWARD_COMPLETED)
    engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
    engine.fire_event(Events.GENERATOR_MODEL_COMPLETED)


def step(engine: AdversarialRegistrationTrainer, player: str, loss: Tensor, backward_event: Events) -> None:
    """Backward and one move of a player, unless loss or gradient is not finite."""
    network: nn.Module = getattr(engine.players, player)
    loss.backward()
    average_gradients(network)
    norm = clip_grad_norm_(network.parameters(), engine.options.max_norm)
    engine.fire_event(backward_event)
    if not (bool(torch.isfinite(averaged(loss))) and bool(torch.isfinite(norm))):
        raise TrainingDiverged(
            f"{player}: the loss is {float(loss.detach())} and its gradient's norm {float(norm)} at iteration "
            f"{engine.state.iteration}; lower the rate. Last good checkpoint: {engine.last_checkpoint or 'none'}"
        )
    getattr(engine.players, f"{player}_optimizer").step()
    schedule = getattr(engine.players, f"{player}_schedule")
    if schedule is not None:
        schedule.step()


def penalty_points(engine: AdversarialRegistrationTrainer, count: int, number: int) -> Tensor:
    """Where between real and fake the penalty looks, ``(count,)``: this rank's part of what all ranks share."""
    rank, ranks = rank_and_size()
    generator = generator_of(engine.options.seed, "penalty", engine.state.iteration, number)
    return torch.rand(count * ranks, generator=generator)[rank::ranks]
