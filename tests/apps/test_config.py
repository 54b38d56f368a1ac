"""The training configuration: defaults, every kind of item, typos with suggestions, files that are none."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from medmi.apps.config import PairFiles, parse_config, read_config
from medmi.engines.options import AdversarialOptions
from medmi.validation import InputError

DATA = {"train": [{"fixed": "a.nii.gz", "moving": "b.nii.gz"}], "validation": [{"fixed": "c.nii", "moving": "d.nii"}]}


def changed(**items: object) -> str:
    """The least configuration with other items."""
    return yaml.safe_dump({"data": DATA, **items})


def test_the_least_configuration_takes_the_defaults():
    config = parse_config(changed())
    assert config.data.train == (PairFiles("a.nii.gz", "b.nii.gz"),)
    assert config.adversarial == AdversarialOptions() and config.reconstruction == "none"
    assert config.network.image_size == 64 and config.views.flips


def test_every_item_of_every_section_can_be_given():
    """What a configuration holds, written out and read again, is itself."""
    config = parse_config(changed(adversarial={"clip": 0.01, "reconstruction_weight": 2}, reconstruction="mi"))
    tree = yaml.safe_load(yaml.safe_dump(listed(dataclasses.asdict(config))))
    assert parse_config(yaml.safe_dump(tree)) == config
    assert config.adversarial.clip == 0.01 and config.adversarial.reconstruction_weight == 2.0


def listed(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: listed(value) for key, value in tree.items()}
    return [listed(value) for value in tree] if isinstance(tree, tuple) else tree


PART = [*DATA["train"], {"fixed": "e", "moving": "f", "registered": False}]
TRUTH_ALONE = {"adversarial_weight": 0.0, "reconstruction_weight": 1.0}


def test_patients_may_be_unregistered():
    config = parse_config(changed(data={**DATA, "train": PART}))
    assert config.data.registered == (PairFiles("a.nii.gz", "b.nii.gz"),)
    assert config.data.unregistered == (PairFiles("e", "f", registered=False),)
    assert config.schedule.known_share == 0.5
    # A similarity needs no truth: it may do without a discriminator.
    parse_config(changed(data={**DATA, "train": PART}, adversarial=TRUTH_ALONE, reconstruction="mi"))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"netwrk": {}}, "unknown item 'netwrk'; did you mean 'network'"),
        ({"network": {"chanels": 3}}, "network: unknown item 'chanels'; did you mean 'channels'"),
        ({"network": {"design": "modrn"}}, "network: design: unknown value 'modrn'; did you mean 'modern'"),
        ({"network": {"channels": "many"}}, r"network\.channels: 'many' came; a whole number is asked"),
        ({"network": {"channels": 3.5}}, r"network\.channels: 3\.5 came; a whole number"),
        ({"network": {"channels": True}}, r"network\.channels: True came; a whole number"),
        ({"network": {"instance_norm": 1}}, r"network\.instance_norm: 1 came; true or false"),
        ({"network": [1]}, "network: a list came; a mapping of items"),
        ({"motion": {"mm": "20 mm"}}, r"motion\.mm: '20 mm' came; a number is asked"),
        ({"motion": {"mm": -1}}, r"motion: mm: -1\.0 came"),
        ({"motion": {"mm": float("nan")}}, "motion: mm: nan came"),
        ({"motion": {"degrees": 10**400}}, r"motion\.degrees: 1000"),
        ({"views": {"foreground": 2.0}}, r"views: foreground: 2\.0"),
        ({"augmentation": {"noise": None}}, r"augmentation\.noise: None came; a number"),
        ({"adversarial": {"game": "wgn"}}, "adversarial: game: unknown value 'wgn'; did you mean 'wgan'"),
        ({"reconstruction": "supervise"}, "unknown value 'supervise'; did you mean 'supervised'"),
        ({"reconstruction": "mi"}, r"reconstruction: 'mi' came with adversarial\.reconstruction_weight 0\.0"),
        ({"adversarial": {"reconstruction_weight": 1.0}}, r"reconstruction: 'none' came with .*1\.0"),
        ({"adversarial": {"n_critic": 3}}, "batch_size: 32 came; a multiple of n_critic=3"),
        ({"schedule": {"epochs": 0}}, "schedule: epochs: 0"),
        ({"schedule": {"known_share": 0.0}}, r"schedule: known_share: 0\.0"),
        ({"schedule": {"known_share": 1.5}}, r"schedule: known_share: 1\.5"),
        ({"schedule": {"alike": -1}}, "schedule: alike: -1"),
        ({"schedule": {"candidates": -1}}, "schedule: candidates: -1"),
        (
            {"schedule": {"candidates": 4}, "adversarial": TRUTH_ALONE, "reconstruction": "supervised"},
            r"candidates: 4 came with adversarial\.adversarial_weight 0, which trains no discriminator",
        ),
        ({"schedule": {"patience": 0}}, "schedule: patience: 0"),
        ({"schedule": {"generator_rate": 0.0}}, r"schedule: generator_rate: 0\.0"),
        ({"schedule": {"warm_steps": 10**6}}, "schedule: warm_steps: 1000000"),
        ({"schedule": {"warm_steps": -1}}, "schedule: warm_steps: -1"),
        ({"data": {**DATA, "slices": True}, "network": {"spatial_dims": 3}}, "slices: true came with a 3D network"),
        ({"data": {**DATA, "modalities": ["T1"]}}, r"data\.modalities: 1 entries came; 2 are asked"),
        ({"data": {**DATA, "train": {}}}, r"data\.train: a dict came; a list"),
        ({"data": {**DATA, "train": []}}, "data: train: no patients"),
        ({"data": {**DATA, "train": [{"fixed": "a"}]}}, r"data: train\[0\]: the moving image is missing; fixed is a"),
        ({"data": {**DATA, "simulate": "ultrasound"}}, r"data: train\[0\]: the moving image would not be read"),
        ({"data": {**DATA, "validation": DATA["train"]}}, r"validation: a\.nii\.gz is trained on too"),
        ({"data": {**DATA, "train": [{"moving": "a"}]}}, r"data\.train\[0\]: fixed is missing"),
        ({"data": {"train": DATA["train"]}}, "data: validation is missing"),
        ({"data": {**DATA, "train": PART[1:]}}, "data: train: no registered patient"),
        ({"data": {"train": DATA["train"], "validation": PART[1:]}}, r"data: validation\[0\]: registered: false"),
        (
            {"data": {**DATA, "train": PART}, "adversarial": TRUTH_ALONE, "reconstruction": "supervised"},
            "train: e came with registered: false and the supervised loss alone",
        ),
    ],
)
def test_items_that_cannot_be_are_refused(items, message):
    with pytest.raises(InputError, match=message):
        parse_config(changed(**items))


@pytest.mark.parametrize(
    "text",
    ["", "3", "[1, 2]", "data", "a: [", "{a: b", "\x00", "when: 2026-99-99", "? [1]\n: 2", "x: &a [*a]", "!!python/object:os.system {}",
     "- " * 3000, b"\xff\xfe\xfa", "data: &a {train: *a}", "1: 2", "null: 1"],
)  # fmt: skip
def test_texts_that_are_no_configuration_are_refused(text):
    with pytest.raises(InputError) as caught:
        parse_config(text)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_files_are_named(tmp_path):
    path = tmp_path / "train.yaml"
    with pytest.raises(InputError, match=r"train\.yaml: cannot be read \(No such file"):
        read_config(path)
    path.write_text(changed(netwrk={}))
    with pytest.raises(InputError, match=r"train\.yaml: unknown item 'netwrk'"):
        read_config(path)
    path.write_text(changed())
    assert read_config(path) == parse_config(changed())
    path.write_text("#" * (2**20 + 1))
    with pytest.raises(InputError, match="is larger than"):
        read_config(path)
