"""``medmi train``: a registration network from a configuration file.

The folder of the results holds ``network.pt`` (the network of the least validation error, for ``medmi register
--network``), ``checkpoint.pt`` (everything that resuming needs), ``curve.csv`` and ``result.json``.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from medmi.apps.config import TrainingConfig
from medmi.apps.data_config import SIMULATIONS, PairFiles
from medmi.apps.output import as_json
from medmi.engines import (
    AdversarialRegistrationTrainer,
    Checkpoints,
    EarlyStop,
    PairBatches,
    Players,
    RollingPairs,
    generator_optimizer,
    load_checkpoint,
    optimizer_for,
    pose_errors_mm,
    warm_cosine,
)
from medmi.engines.curve import Curve
from medmi.engines.reconstruction import Reconstruction, reconstruction_loss
from medmi.grid import Grid
from medmi.io import read_image
from medmi.networks.registration_judge import Judge
from medmi.networks.registration_predictor import RegistrationPredictor
from medmi.simulation.makers import PairMaker, PartlyKnownPairs, StoredPairs, UltrasoundPairs
from medmi.simulation.pairs import TrainingPairs
from medmi.simulation.sources import Source, centred_grid, slices_of, source_of
from medmi.simulation.views import Views
from medmi.validation import InputError

SUCCESS_MM = 5.0
VALIDATION_BATCH = 64
SLICE_MM, SLICES = 3.0, 128


@dataclass(frozen=True)
class Training:
    """A trainer ready to run, and what it is measured on."""

    config: TrainingConfig
    trainer: AdversarialRegistrationTrainer
    validation: list[dict[str, Tensor]]

    def predictor(self) -> RegistrationPredictor:
        """The network as it is."""
        config, players, count = self.config, self.trainer.players, self.config.schedule.candidates
        judge = Judge(players.discriminator, count) if count else None
        modalities, passes = config.data.modalities, config.schedule.passes
        return RegistrationPredictor(players.generator, config.network, modalities, passes, judge)


def train_files(
    config: TrainingConfig,
    base: pathlib.Path,
    folder: pathlib.Path,
    resume: bool,
    progress: Callable[[float], None] | None,
) -> dict[str, Any]:
    """Train as a configuration says and fill the result folder; the summary that went into result.json.

    Raises:
        InputError: images that cannot be used, or a folder that holds another training.
        KeyboardInterrupt: after Ctrl-C, when what resumes the training is written.
        TrainingDiverged: a loss that is not finite; network and checkpoint of before stay.
    """
    if find_spec("ignite") is None:
        raise InputError("train: the package pytorch-ignite is missing; pip install 'medmi[train]'")
    checkpoints = Checkpoints(folder)
    if checkpoints.path.exists() != resume:
        hint = "holds a training; resume it with --resume or choose another folder"
        raise InputError(f"{folder}: {'no checkpoint.pt to resume from' if resume else hint}")
    parts = (config.data.registered, config.data.validation, config.data.unregistered)
    training = build_training(config, *(patients(config, part, base) if part else [] for part in parts))
    if resume:
        load_checkpoint(training.trainer, checkpoints.path)
    run_training(training, checkpoints, progress)
    state, best = training.trainer.state, RegistrationPredictor.load(folder / "network.pt")
    summary = {"status": "done", "epochs": state.epoch, "best_epoch": state.best_metric_epoch}
    summary |= error_summary(best, training.validation)
    (folder / "result.json").write_text(as_json(summary))
    return summary


def evaluate_files(
    config: TrainingConfig, base: pathlib.Path, network: pathlib.Path, output: pathlib.Path
) -> dict[str, Any]:
    """Errors of a network file on the validation patients of a configuration; the summary that went into ``output``.

    Raises:
        InputError: images or a file that cannot be used, or a network of another architecture.
    """
    predictor = RegistrationPredictor.load(network)
    if predictor.architecture != config.network:
        raise InputError(
            f"{network}: was trained as {predictor.architecture}; the configuration asks for {config.network}"
        )
    tests = validation_batches(config, patients(config, config.data.validation, base))
    summary = error_summary(predictor, tests)
    output.write_text(as_json(summary))
    return summary


def error_summary(predictor: RegistrationPredictor, batches: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Means, medians and successes of errors in mm: before the first pass, after each and, with a judge, of its choice."""
    grids = (predictor.architecture.grid, predictor.architecture.source_grid)
    errors = pose_errors_mm(predictor.generator, batches, grids, predictor.passes, predictor.judge)
    return {
        "mean_error_mm": errors.mean(1).tolist(),
        "median_error_mm": errors.median(1).values.tolist(),
        f"share_under_{SUCCESS_MM:g}_mm": (errors < SUCCESS_MM).double().mean(1).tolist(),
    }


def run_training(training: Training, checkpoints: Checkpoints, progress: Callable[[float], None] | None = None) -> None:
    """Run with validation, the curve, the best network and checkpoints."""
    from ignite.engine import Events

    schedule, trainer = training.config.schedule, training.trainer

    def keep_best() -> None:
        if trainer.state.best_metric_epoch == trainer.state.epoch:
            training.predictor().save(checkpoints.folder / "network.pt")

    def tell() -> None:
        if progress is not None:
            progress(trainer.state.iteration / (schedule.epochs * schedule.steps_per_epoch))

    EarlyStop(training.validation, schedule.patience, schedule.passes).attach(trainer)
    Curve(checkpoints.folder, schedule.tensorboard).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, keep_best)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=10), tell)
    checkpoints.run(trainer)


def build_training(
    config: TrainingConfig, train: list[Source], validation: list[Source], unregistered: Sequence[Source] = ()
) -> Training:
    """Networks, batches and trainer of a configuration, on sources of its fine grid.

    ``unregistered`` are further sources to train on, whose images are not aligned.
    """
    network, schedule = config.network, config.schedule
    pairs = TrainingPairs(network.grid, network.source_grid, network.transform, config.motion, config.views)
    known = maker(config, train, True)
    registered: RollingPairs | bool = config.adversarial.adversarial_weight > 0
    drawn = known
    if unregistered:
        drawn = PartlyKnownPairs(known, maker(config, unregistered, True), schedule.known_share)
        # Of a seed of their own, as are those of the validation: pair number n is another one here.
        registered = registered and rolling(config, known, schedule.seed + 2)
    stream = PairBatches(
        rolling(config, drawn, schedule.seed), pairs,
        schedule.batch_size, schedule.steps_per_epoch, schedule.seed, registered,
    )  # fmt: skip
    both, reconstruction = players(config)
    trainer = AdversarialRegistrationTrainer(
        both, stream, network.grid, schedule.epochs, config.adversarial,
        reconstruction.loss, source_grid=network.source_grid,
    )  # fmt: skip
    return Training(config, trainer, validation_batches(config, validation))


def rolling(config: TrainingConfig, pairs: PairMaker, seed: int) -> RollingPairs:
    """The buffer of pairs to train on."""
    schedule = config.schedule
    return RollingPairs(pairs, schedule.buffer, schedule.reuse, seed, schedule.alike)


def validation_batches(config: TrainingConfig, sources: list[Source], covers: bool = False) -> list[dict[str, Tensor]]:
    """Pairs of held-out patients that stay the same all through a training, without augmentation or flips.

    ``covers`` adds where simulated pairs show something, as masks for whoever registers them by other means.
    """
    network, count = config.network, config.schedule.validation_pairs
    views = Views(config.views.degrees, config.views.mm, config.views.foreground)
    pairs = TrainingPairs(network.grid, network.source_grid, network.transform, config.motion, views)
    aligned = RollingPairs(maker(config, sources, False, covers), count, count, config.schedule.seed + 1)
    size = min(VALIDATION_BATCH, count)
    stream = PairBatches(aligned, pairs, size, 1, config.schedule.seed + 1, registered=False)
    return [stream.batch(step) for step in range(-(-count // size))]


def maker(config: TrainingConfig, sources: Sequence[Source], augmented: bool, covers: bool = False) -> PairMaker:
    """What makes aligned pairs of the sources."""
    augmentation = config.augmentation if augmented else None
    network = config.network
    if SIMULATIONS[config.data.simulate]:
        crop, pool = config.data.crop, network.pool
        return UltrasoundPairs(
            sources, network.fine_grid, crop=crop, pool=pool, augmentation=augmentation, covers=covers
        )
    return StoredPairs(sources, network.pool, augmentation)


def players(config: TrainingConfig) -> tuple[Players, Reconstruction]:
    """Both networks on the device, from the seed alone, with optimisers and schedules; and the reconstruction loss."""
    schedule, options = config.schedule, config.adversarial
    steps = schedule.epochs * schedule.steps_per_epoch
    check_device(schedule.device)
    # Layers draw their start from the CPU's global generator: seeded for them alone, and put back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(schedule.seed)
        generator = config.network.generator().to(schedule.device)
        discriminator = config.network.discriminator().to(schedule.device)
        reconstruction = reconstruction_loss(config.reconstruction, config.network.grid)
    first = generator_optimizer(generator, options, schedule.generator_rate)
    second = optimizer_for(discriminator, options, schedule.discriminator_rate)
    if reconstruction.learns is not None:
        reconstruction.learns.to(schedule.device)
        first.add_param_group({"params": list(reconstruction.learns.parameters())})
    schedules = (
        warm_cosine(first, steps, schedule.warm_steps),
        warm_cosine(second, steps * options.n_critic),
    )
    return Players(generator, first, discriminator, second, *schedules, reconstruction.learns), reconstruction


def check_device(name: str) -> None:
    """Raise unless tensors can be made there."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"schedule: device: {name!r} cannot be used here; choose cpu or another") from error


def patients(config: TrainingConfig, files: tuple[PairFiles, ...], base: pathlib.Path) -> list[Source]:
    """The sources of some patients: one each, or the slices of each."""
    grid, found = source_grid_3d(config) if config.data.slices else config.network.fine_grid, []
    for pair in files:
        moving = None if pair.moving is None else read_image(base / pair.moving)
        source = source_of(read_image(base / pair.fixed), moving, grid)
        found += slices_of(source) if config.data.slices else [source]
    if not found:
        raise InputError("data: no slice shows anything; give other images")
    return found


def source_grid_3d(config: TrainingConfig) -> Grid:
    """The fine grid of slices, with a third axis for the volume that they are cut from."""
    flat = config.network.fine_grid
    volume = centred_grid((*flat.shape, SLICES), float(flat.spacing[0]))
    affine = volume.affine.clone()
    affine[2, 2:] = torch.tensor([SLICE_MM, -SLICE_MM * (SLICES - 1) / 2], dtype=torch.float64)
    return Grid(volume.shape, affine)
