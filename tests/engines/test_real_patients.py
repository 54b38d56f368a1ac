"""Accuracy on slices of real patients that no training saw, and on bars: each training within minutes on one thread.

Ultrasound is simulated from the patients' T1. The adversarial trainings see no true transform.
"""

from __future__ import annotations

import pathlib
import runpy
from dataclasses import replace

import pytest
import torch

from medmi.apps.config import PairFiles, TrainingConfig
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


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def errors(training: AdversarialRegistrationTrainer, tests: list[dict[str, torch.Tensor]]) -> list[float]:
    """Mean errors in mm before the first pass and after each."""
    grids = (training.grid, training.source_grid)
    return pose_errors_mm(training.players.generator, tests, grids, PASSES).mean(1).tolist()


@pytest.fixture(scope="module")
def slices(data) -> dict[str, list]:
    """Sources of all patients by part, on the fine grid of the small networks."""
    folder = data / "ct-mr-pet"
    names = SCRIPT["image_files"](folder)
    config = SCRIPT["config_of"]("supervised", 32, 1, names)
    found = {part: patients(config, names[part], folder) for part in names}
    return {**found, "names": names}


def small(method: str, epochs: int, names: dict[str, tuple[PairFiles, ...]]) -> TrainingConfig:
    return SCRIPT["config_of"](method, 32, epochs, names)


def trained_on_patients(method: str, epochs: int, slices: dict[str, list]):
    """A finished training, and batches of the test patients."""
    config = small(method, epochs, slices["names"])
    measured = replace(config, schedule=replace(config.schedule, validation_pairs=TEST_PAIRS, seed=1000))
    training = build_training(config, slices["train"], slices["validation"])
    training.trainer.run()
    return training.trainer, validation_batches(measured, slices["test"])


def test_the_published_network_with_instance_norm_learns_from_the_truth(slices):
    training, tests = trained_on_patients("supervised", 6, slices)
    start, _, second = errors(training, tests)
    assert 14 < start < 17 and second <= 7.5
    # Nothing in the moving image alone tells the pose: with the fixed images of others nothing is found.
    start, _, second = errors(training, [{**batch, "fixed": batch["fixed"].roll(1, 0)} for batch in tests])
    assert second > 0.9 * start


@pytest.mark.parametrize("method", ["gan", "wgan"])
def test_it_learns_from_a_discriminator_alone(method, slices):
    start, _, second = errors(*trained_on_patients(method, 6, slices))
    assert 14 < start < 17 and second <= 13


@pytest.mark.parametrize("method", ["gan", "wgan"])
def test_a_discriminator_alone_halves_the_error_on_bars(method):
    config = small(method, 3, {"train": (PairFiles("a"),), "validation": (PairFiles("b"),)})
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
    start, _, second = errors(training, [tests.batch(0)])
    assert start > 12 and second <= start / 2
