"""Accuracy on slices of real patients that no training saw, and on bars: each training within minutes on one thread.

Ultrasound is simulated from the patients' T1. The adversarial trainings see no true transform.
"""

from __future__ import annotations

import multiprocessing
import pathlib
import runpy
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch

from medmi.apps.config import PairFiles
from medmi.apps.train import build_training, patients, players, validation_batches
from medmi.engines.adversarial import AdversarialRegistrationTrainer
from medmi.engines.batches import PairBatches
from medmi.engines.rolling import RollingPairs
from medmi.engines.stopping import pose_errors_mm
from medmi.simulation.pairs import TrainingPairs
from medmi.threads import one_thread
from tests.contracts.bars import Bars

pytestmark = pytest.mark.slow

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "benchmarks"
# The script imports the one beside it.
with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(str(FOLDER))
    SCRIPT = runpy.run_path(str(FOLDER / "adversarial.py"))
PASSES, TEST_PAIRS = 2, 256


Errors = list[float]
"""Mean errors in mm before the first pass and after each."""


def errors(training: AdversarialRegistrationTrainer, tests: list[dict[str, torch.Tensor]]) -> Errors:
    """Of a network over batches of test pairs."""
    grids = (training.grid, training.source_grid)
    return pose_errors_mm(training.players.generator, tests, grids, PASSES).mean(1).tolist()


@one_thread()
def on_patients(method: str, epochs: int, folder: pathlib.Path) -> tuple[Errors, Errors]:
    """Train on slices of patients; errors on those of others, then with each moving image beside another's fixed one."""
    names = SCRIPT["image_files"](folder)
    config = SCRIPT["config_of"](method, 32, epochs, names)
    slices = {part: patients(config, names[part], folder) for part in names}
    measured = replace(config, schedule=replace(config.schedule, validation_pairs=TEST_PAIRS, seed=1000))
    training = build_training(config, slices["train"], slices["validation"]).trainer
    training.run()
    tests = validation_batches(measured, slices["test"])
    return errors(training, tests), errors(training, [{**batch, "fixed": batch["fixed"].roll(1, 0)} for batch in tests])


@one_thread()
def on_bars(method: str, epochs: int, folder: pathlib.Path) -> Errors:
    """Train on bars, which have nothing but edges; errors on other bars."""
    config = SCRIPT["config_of"](method, 32, epochs, {"train": (PairFiles("a"),), "validation": (PairFiles("b"),)})
    network, schedule = config.network, config.schedule
    pairs = TrainingPairs(network.grid, network.source_grid, views=config.views)
    stream, tests = (
        PairBatches(RollingPairs(Bars(network.source_grid), 512, 8, seed), pairs, size, 250, seed)
        for seed, size in ((0, schedule.batch_size), (1, TEST_PAIRS))
    )
    training = AdversarialRegistrationTrainer(
        players(config)[0], stream, network.grid, schedule.epochs, config.adversarial, source_grid=network.source_grid
    )
    training.run()
    return errors(training, [tests.batch(0)])


TRAININGS = [
    (on_patients, "gan", 6),
    (on_patients, "wgan", 6),
    (on_patients, "supervised", 6),
    (on_bars, "gan", 3),
    (on_bars, "wgan", 3),
]


@pytest.fixture(scope="module")
def trained(data) -> Iterator[dict[tuple[str, str], Future]]:
    """What every training will have reached; two run at a time, each in a process of its own."""
    executor = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    folder = data / "ct-mr-pet"
    yield {(run.__name__, method): executor.submit(run, method, epochs, folder) for run, method, epochs in TRAININGS}
    executor.shutdown(cancel_futures=True)


@pytest.mark.parametrize("method", ["gan", "wgan"])
def test_it_learns_from_a_discriminator_alone(method, trained):
    (start, _, second), _ = trained["on_patients", method].result()
    assert 14 < start < 17 and second <= 13


def test_the_published_network_with_instance_norm_learns_from_the_truth(trained):
    found, with_fixed_of_others = trained["on_patients", "supervised"].result()
    assert 14 < found[0] < 17 and found[2] <= 7.5
    # Nothing in the moving image alone tells the pose.
    start, _, second = with_fixed_of_others
    assert second > 0.9 * start


@pytest.mark.parametrize("method", ["gan", "wgan"])
def test_a_discriminator_alone_halves_the_error_on_bars(method, trained):
    start, _, second = trained["on_bars", method].result()
    assert start > 12 and second <= start / 2
