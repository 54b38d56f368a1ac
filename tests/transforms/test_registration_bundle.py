"""The bundle with a trained network, run by MONAI's command line in a process of its own that can reach no network."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from medmi import apply, register
from medmi.apps.config import parse_config
from medmi.io import read_image, read_transform, write_image
from medmi.networks import RegistrationPredictor, StackedPairNetwork
from medmi.simulation import HeadPhantom, simulate_ultrasound
from medmi.simulation.sources import centred_grid
from tests.contracts.training import write_heads

pytest.importorskip("fire", reason="fire is not installed: MONAI's bundles have no command line")
BUNDLE = pathlib.Path(__file__).parents[2] / "examples" / "bundles" / "registration_2d"
NETWORK = BUNDLE / "models" / "network.pt"
NOWHERE = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}


def run(config: str, *arguments: object) -> subprocess.CompletedProcess:
    """``python -m monai.bundle run`` with a configuration of the bundle, at this process's number of threads.

    The network's sums are of single precision, and their order follows the number of threads.
    """
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"configs/{config}.json"]
    line += map(str, arguments)
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment = os.environ | NOWHERE | threads | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    return subprocess.run(line, cwd=BUNDLE, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("refine", [True, False])
def test_inference_is_the_network_then_the_solver_with_the_ultrasound_fixed(refine, tmp_path):
    grid = centred_grid((80, 90), 1.5)
    fixed = HeadPhantom(3, 2).image(grid, "t1", 3)
    folder = tmp_path / "pairs" / "p0"
    folder.mkdir(parents=True)
    write_image(fixed, folder / "fixed.mha")
    write_image(simulate_ultrasound(fixed, 1), folder / "moving.mha")
    done = run("inference", "--dataset_dir", tmp_path / "pairs", "--output_dir", tmp_path / "out", "--refine", refine)
    assert done.returncode == 0, done.stderr[-6000:]
    found = read_transform(tmp_path / "out" / "moving" / "moving_transform.tfm")
    t1, us = (read_image(folder / f"{role}.mha") for role in ("fixed", "moving"))
    expected = RegistrationPredictor.load(NETWORK)(t1, us)
    if refine:
        fan = MetaTensor((us.as_tensor() != 0).float(), affine=us.affine)
        result = register(us, t1, initial=expected.inverse(), preset="mr-us-coarse", fixed_mask=fan)
        assert not result.failed
        expected = result.transform.inverse()
    np.testing.assert_allclose(found.matrix.numpy(), expected.matrix.numpy(), atol=1e-6)
    moved, again = read_image(tmp_path / "out" / "moving" / "moving_moved.nii.gz"), apply(us, expected, t1)
    assert moved.shape == fixed.shape
    np.testing.assert_allclose(moved.as_tensor().numpy(), again.as_tensor().numpy(), atol=1e-4)


def test_the_network_of_the_inference_is_the_one_that_is_shipped():
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.json"))
    parser["bundle_root"] = str(BUNDLE)
    assert isinstance(parser.get_parsed_content("network_def"), StackedPairNetwork)


@pytest.mark.parametrize(("name", "adversarial"), [("", False), ("_adversarial", True)])
def test_the_weights_are_those_of_their_configuration(name, adversarial):
    config = parse_config((BUNDLE / "configs" / f"train{name}.yaml").read_bytes())
    path = BUNDLE / "models" / f"network{name}.pt"
    predictor = RegistrationPredictor.load(path)
    assert predictor.architecture == config.network and predictor.modalities == config.data.modalities
    assert path.stat().st_size < 20 * 2**20
    assert config.reconstruction == ("none" if adversarial else "supervised")
    assert (config.adversarial.adversarial_weight > 0) == adversarial


def test_the_network_takes_one_tensor_and_gives_one():
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    shape = metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    outputs = metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    assert StackedPairNetwork.load(NETWORK)(torch.zeros(1, 2, *shape)).shape == (1, outputs)


def test_the_metadata_fit_their_schema():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    metadata, schema = (json.loads((BUNDLE / "configs" / f"metadata{n}.json").read_text()) for n in ("", "_schema"))
    jsonschema.validate(metadata, schema)


@pytest.mark.slow
def test_training_and_evaluation_run_offline(tmp_path):
    """On two heads and for two epochs of two steps: the configurations run and agree, which is all they can show."""
    data = write_heads(tmp_path)
    tree = yaml.safe_load((BUNDLE / "configs" / "train.yaml").read_text())
    tree["data"] |= {part: [{"fixed": row["fixed"]} for row in rows] for part, rows in data.items()}
    tree["schedule"] |= {"epochs": 2, "steps_per_epoch": 2, "warm_steps": 1, "buffer": 8, "validation_pairs": 8}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(tree))
    places = ["--config", tmp_path / "train.yaml", "--dataset_dir", tmp_path]
    done = run("train", *places, "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-6000:]
    done = run("evaluate", *places, "--network", tmp_path / "out" / "network.pt", "--output", tmp_path / "e.json")
    assert done.returncode == 0, done.stderr[-6000:]
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert json.loads((tmp_path / "e.json").read_text())["mean_error_mm"] == pytest.approx(written["mean_error_mm"])


def test_a_wrong_network_is_refused(tmp_path):
    from medmi.apps.train import evaluate_files
    from medmi.validation import InputError

    config = parse_config((BUNDLE / "configs" / "train.yaml").read_bytes())
    other = RegistrationPredictor.load(NETWORK)
    object.__setattr__(other.architecture, "spacing_mm", 3.0)
    other.save(tmp_path / "network.pt")
    with pytest.raises(InputError, match="was trained as"):
        evaluate_files(config, tmp_path, tmp_path / "network.pt", tmp_path / "e.json")
