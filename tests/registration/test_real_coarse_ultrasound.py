"""Slices of 64 x 64 voxels of patients that no training saw, from poses that networks find, by ``mr-us-coarse``.

Ultrasound is simulated from the patients' T1; masks say where either image shows something.
"""

from __future__ import annotations

import pathlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from medmi.apps.train import patients, validation_batches
from medmi.networks.registration_predictor import RegistrationPredictor
from medmi.simulation.pairs import Extent, random_motions

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
MODELS = EXAMPLES / "bundles" / "registration_2d" / "models"
MEAN_MM, MEDIAN_MM, FAR_MM, SHARE = 2.7, 1.6, 5.0, 0.85


@pytest.fixture
def scene(data, monkeypatch):
    """The benchmark's modules, the grids, and pairs of test patients with covers."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    import adversarial
    import adversarial_refinement

    folder = data / "ct-mr-pet"
    names = adversarial.image_files(folder)
    config = adversarial.config_of("supervised", 64, 1, names)
    config = replace(config, schedule=replace(config.schedule, validation_pairs=64, seed=1000))
    batches = validation_batches(config, patients(config, names["test"], folder), covers=True)
    grids = (config.network.grid, config.network.source_grid)
    return SimpleNamespace(
        grids=grids, batches=batches, refinement=adversarial_refinement, network_poses=adversarial.network_poses
    )


def good(errors: torch.Tensor) -> bool:
    near = float((errors < FAR_MM).double().mean()) >= SHARE
    return near and float(errors.mean()) <= MEAN_MM and float(errors.median()) <= MEDIAN_MM


@pytest.mark.slow
def test_from_a_few_millimetres_off(scene):
    generator = torch.Generator().manual_seed(3)
    starts = []
    for batch in scene.batches:
        motions = random_motions(len(batch["start"]), "rigid", scene.grids[0], Extent(6.0, 8.0), generator)
        starts.append(batch["start"] @ batch["truth"] @ motions.there)
    plain, *coarse = (
        scene.refinement.refined(scene.grids, scene.batches, starts, way, "identity").errors
        for way in scene.refinement.REFINEMENTS
    )
    assert len(coarse) == 2 and all(good(errors) and errors.mean() < plain.mean() for errors in coarse)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["network", "network_adversarial"])
def test_from_where_the_bundles_networks_end(scene, name):
    starts = scene.network_poses(RegistrationPredictor.load(MODELS / f"{name}.pt"), scene.batches)
    for way in scene.refinement.REFINEMENTS[1:]:
        assert good(scene.refinement.refined(scene.grids, scene.batches, starts, way, "identity").errors), way
