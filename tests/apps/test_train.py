"""``medmi train`` and ``medmi register --network``: files, resuming, Ctrl-C, divergence, refusals."""

from __future__ import annotations

import csv
import json
import signal
from unittest import mock

import pytest
import torch
import yaml

from medmi.apps.config import read_config
from medmi.apps.train import build_training, evaluate_files, patients
from medmi.engines.adversarial import TrainingDiverged
from medmi.networks.registration_predictor import RegistrationPredictor
from tests.contracts.training import write_config, write_heads
from tests.oracles.command_line import files, run

WRITTEN = ["checkpoint.pt", "curve.csv", "network.pt", "result.json"]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A folder of two heads, and the data section that names them."""
    folder = tmp_path_factory.mktemp("heads")
    return folder, write_heads(folder)


@pytest.fixture(scope="module")
def trained(heads, tmp_path_factory):
    """What one small training left."""
    folder, data = heads
    out = tmp_path_factory.mktemp("trained") / "out"
    outcome = run("train", write_config(folder, data), "-o", out, "--threads", 1, "--json")
    assert outcome.code == 0, outcome.err
    return out, outcome.json


def test_the_folder_holds_network_checkpoint_curve_and_result(trained):
    out, summary = trained
    assert files(out) == WRITTEN
    assert json.loads((out / "result.json").read_text()) == summary
    assert summary["status"] == "done" and summary["epochs"] == 2 and len(summary["mean_error_mm"]) == 3
    with (out / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = min(rows, key=lambda row: float(row["error_mm"]))
    assert [row["epoch"] for row in rows] == ["1", "2"] and int(best["epoch"]) == summary["best_epoch"]
    assert summary["mean_error_mm"][2] == pytest.approx(float(best["error_mm"]))
    network = RegistrationPredictor.load(out / "network.pt")
    assert network.modalities == ("fixed", "moving") and network.architecture.image_size == 8


def test_the_line_says_what_was_reached(heads, tmp_path):
    folder, data = heads
    outcome = run("train", write_config(folder, data, schedule={"epochs": 1}), "-o", tmp_path / "o", "--threads", 1)
    assert outcome.code == 0 and "mm before" in outcome.out and str(tmp_path / "o") in outcome.out


def test_the_discriminator_comes_with_the_network_where_it_is_to_judge(heads, tmp_path):
    folder, data = heads
    path, out = write_config(folder, data, schedule={"candidates": 3}), tmp_path / "out"
    outcome = run("train", path, "-o", out, "--threads", 1, "--json")
    assert outcome.code == 0, outcome.err
    network = RegistrationPredictor.load(out / "network.pt")
    assert network.judge is not None and network.judge.candidates == 3
    assert len(outcome.json["mean_error_mm"]) == 4, "before, after two passes, and of the judge's choice"
    evaluate_files(read_config(path), folder, out / "network.pt", out / "again.json")
    again = json.loads((out / "again.json").read_text())
    assert again["mean_error_mm"] == outcome.json["mean_error_mm"]


def test_alike_pairs_and_strains_are_for_training_alone(heads):
    folder, data = heads
    built = []
    for alike, strain in ((0, 0.0), (2, 0.2)):
        path = write_config(folder, data, schedule={"alike": alike}, views={"strain": strain})
        config = read_config(path)
        built.append(build_training(config, *(patients(config, f, folder) for f in (config.data.train,) * 2)))
    plain, changed = (training.trainer.batches for training in built)
    first, others = changed.aligned.pair(0, range(4)), changed.aligned.pair(2, range(4))
    assert torch.equal(first["moving"], first["fixed"]) and not torch.equal(others["moving"], others["fixed"])
    assert changed.pairs.views.strain == 0.2 and not torch.equal(changed.batch(0)["start"], plain.batch(0)["start"])
    for batch, other in zip(*(training.validation for training in built), strict=True):
        assert all(torch.equal(batch[name], other[name]) for name in other)


def test_patients_that_are_not_registered_are_no_examples(heads, tmp_path):
    folder, data = heads
    path = write_config(
        folder, {**data, "train": [*data["train"], {"fixed": "fixed2.nii.gz", "moving": "moving1.nii.gz", "registered": False}]},
        adversarial={"reconstruction_weight": 1.0}, reconstruction="supervised", schedule={"known_share": 0.25},
    )  # fmt: skip
    (folder / "fixed2.nii.gz").write_bytes((folder / data["validation"][0]["fixed"]).read_bytes())
    config = read_config(path)
    sources = [patients(config, part, folder) for part in (config.data.registered, config.data.unregistered)]
    stream = build_training(config, sources[0], sources[0], sources[1]).trainer.batches
    assert stream.aligned.maker.known == stream.registered.maker
    assert [s.fixed.sum() for s in stream.registered.maker.sources] == [s.fixed.sum() for s in sources[0]]
    batches = [stream.batch(step) for step in range(30)]
    share = torch.cat([batch["known"] for batch in batches]).mean()
    assert 0.05 < float(share) < 0.5
    # Where all are registered, batches say nothing of it.
    assert "known" not in build_training(config, sources[0], sources[0]).trainer.batches.batch(0)
    outcome = run("train", path, "-o", tmp_path / "o", "--threads", 1, "--json")
    assert outcome.code == 0 and outcome.json["status"] == "done", outcome.err


def test_ctrl_c_saves_and_resuming_reaches_the_same_weights(heads, trained, tmp_path):
    folder, data = heads
    config, out = write_config(folder, data), tmp_path / "out"

    def press(*arguments):
        signal.raise_signal(signal.SIGINT)

    with mock.patch("medmi.apps.train.EarlyStop.__call__", press):
        stopped = run("train", config, "-o", out, "--threads", 1)
    assert stopped.code == 130 and "--resume" in stopped.err and "nothing was written" not in stopped.err
    assert "checkpoint.pt" in files(out)
    resumed = run("train", config, "-o", out, "--threads", 1, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    ours, whole = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (out, trained[0]))
    assert all(torch.equal(ours["generator"][k], whole["generator"][k]) for k in whole["generator"])


def test_resuming_a_complete_training_gives_its_result_again(heads, trained):
    out, summary = trained
    before = (out / "checkpoint.pt").read_bytes()
    outcome = run("train", write_config(*heads), "-o", out, "--threads", 1, "--resume", "--json")
    assert outcome.code == 0 and outcome.json == summary and (out / "checkpoint.pt").read_bytes() == before


def test_a_training_that_diverges_stops_with_what_was_good(heads, tmp_path):
    folder, data = heads

    def late(engine, batch):
        if engine.state.iteration == 5:
            raise TrainingDiverged("generator: the loss is nan at iteration 5")
        return original(engine, batch)

    from medmi.engines import adversarial

    original = adversarial.iterate
    with mock.patch.object(adversarial, "iterate", late):
        outcome = run("train", write_config(folder, data), "-o", tmp_path / "o", "--threads", 1)
    assert outcome.code == 3 and "the loss is nan" in outcome.err and outcome.out == ""
    assert files(tmp_path / "o") == ["checkpoint.pt", "curve.csv", "network.pt"]
    assert torch.load(tmp_path / "o" / "checkpoint.pt", weights_only=True)["progress"]["iteration"] == 3


def test_simulated_ultrasound_of_slices(heads, tmp_path):
    folder, data = heads
    only = {part: [{"fixed": row["fixed"]} for row in rows] for part, rows in data.items()}
    config = write_config(
        folder, {**only, "simulate": "ultrasound", "slices": True}, network={"spatial_dims": 2, "image_size": 16, "spacing_mm": 12.0}
    )  # fmt: skip
    outcome = run("train", config, "-o", tmp_path / "o", "--threads", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert RegistrationPredictor.load(tmp_path / "o" / "network.pt").architecture.spatial_dims == 2


def test_a_network_starts_the_solver(heads, trained, tmp_path):
    folder, data = heads
    pair = [folder / data["train"][0][role] for role in ("fixed", "moving")]
    outcome = run("register", *pair, "-o", tmp_path / "r", "--network", trained[0] / "network.pt", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["initial"] == "network" and "transform.tfm" in files(tmp_path / "r")


def test_networks_that_cannot_be_used_are_refused(heads, trained, tmp_path):
    folder, data = heads
    pair = [folder / data["train"][0][role] for role in ("fixed", "moving")]
    for network, *words in (
        (tmp_path / "none.pt", "none.pt", "no such file"),
        (trained[0] / "checkpoint.pt", "checkpoint.pt", "is no network file"),
        (trained[0] / "curve.csv", "curve.csv", "damaged or no network file"),
    ):
        assert run("register", *pair, "-o", tmp_path / "r", "--network", network).is_refusal(*words)
    both = run("register", *pair, "-o", tmp_path / "r", "--network", trained[0] / "network.pt", "--initial", "moments")
    assert both.is_refusal("--network", "--initial") and files(tmp_path / "r") == []


def test_trainings_that_cannot_start_are_refused(heads, trained, tmp_path):
    folder, data = heads
    out = tmp_path / "out"
    typo = write_config(folder, data, schedule={"epoch": 3})
    assert run("train", typo, "-o", out).is_refusal("train.yaml", "schedule", "did you mean 'epochs'")
    gone = write_config(folder, {**data, "train": [{"fixed": "gone.nii", "moving": "gone.nii"}]})
    assert run("train", gone, "-o", out).is_refusal("gone.nii")
    good = write_config(folder, data)
    assert run("train", good, "-o", out, "--resume").is_refusal("no checkpoint.pt to resume from")
    assert files(out) == []
    assert run("train", good, "-o", trained[0]).is_refusal("holds a training", "--resume")
    other = write_config(folder, data, adversarial={"penalty": 3.0})
    assert run("train", other, "-o", trained[0], "--resume").is_refusal("trained with other penalty")
    flat = write_config(folder, data, network={"spatial_dims": 2})
    assert run("train", flat, "-o", out).is_refusal("fixed: shape")
    device = write_config(folder, data, schedule={"device": "warp"})
    assert run("train", device, "-o", out).is_refusal("schedule: device: 'warp'")


def test_a_missing_package_is_named(heads, tmp_path):
    with mock.patch("medmi.apps.train.find_spec", lambda name: None):
        assert run("train", write_config(*heads), "-o", tmp_path / "o").is_refusal("pip install 'medmi[train]'")
    assert files(tmp_path / "o") == []


def test_examples_of_the_help_are_read(heads):
    assert "CONFIG" in run("train", "--help").out
    assert yaml.safe_load(write_config(*heads).read_text())["network"]["design"] == "published"
