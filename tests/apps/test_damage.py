"""The command line's own text files with bytes changed, cut or put in: read, or refused in one line; never run as code."""

from __future__ import annotations

import pytest

from medmi.apps.config import read_config
from medmi.apps.pairs import read_pairs
from medmi.registration.presets import read_preset
from medmi.validation import InputError
from tests.oracles.damage import TEXTS, attack

PAIRS = """id,fixed,moving,fixed_mask,moving_mask,initial
first,a/ct.nii.gz,a/mr.nii.gz,,,auto
"second, left",b/ct.nii.gz,b/mr#MR,b/mask.nii.gz,,identity
third,/data/c/ct.nii.gz,/data/c/mr.nii.gz,,m.nii.gz,start.tfm
"""
CONFIG = """data:
  train: [{fixed: a/mr.nii.gz}, {fixed: b/mr.nii.gz}]
  validation:
    - fixed: c/mr.nii.gz
  simulate: ultrasound
  modalities: [MR, US]
  crop: 0.1
schedule:
  epochs: 4
  steps_per_epoch: 10
  warm_steps: 5
  generator_rate: 0.001
"""


@pytest.mark.parametrize("cases", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_pairs(tmp_path, cases):
    (tmp_path / "pairs.csv").write_text(PAIRS)
    assert len(read_pairs(tmp_path / "pairs.csv")) == 3
    assert attack([tmp_path / "pairs.csv"], read_pairs, cases, TEXTS) > cases / 4


@pytest.mark.parametrize("cases", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_configurations(tmp_path, cases):
    (tmp_path / "train.yaml").write_text(CONFIG)
    assert read_config(tmp_path / "train.yaml").schedule.epochs == 4
    assert attack([tmp_path / "train.yaml"], read_config, cases, TEXTS) > cases / 2


PRESET = """similarity: nmi
search_points: 900
points: [1000, 3000, 9000]
detail: 1.5
"""


@pytest.mark.parametrize("cases", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_presets(tmp_path, cases):
    (tmp_path / "own.yaml").write_text(PRESET)
    assert read_preset(tmp_path / "own.yaml").plan.search_points == 900
    assert attack([tmp_path / "own.yaml"], read_preset, cases, TEXTS) > cases / 3


BOMB = "\n".join(["a0: &a0 [x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 30))])
CODE = (
    *("!!python/object/apply:os.mkdir [{}]", "!!python/object/new:os.mkdir [{}]", "data: !!python/name:os.mkdir"),
    *(BOMB, BOMB + "\ndata: *a29\npoints: *a29", "points: &a [*a]", "data: &a [*a]", BOMB.replace("a29", "points")),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("read", [read_config, read_preset])
@pytest.mark.parametrize("text", CODE)
def test_yaml_runs_nothing_and_unfolds_nothing(tmp_path, text, read):
    path, made = tmp_path / "train.yaml", tmp_path / "made"
    path.write_text(text.replace("{}", str(made)))
    with pytest.raises(InputError) as refused:
        read(path)
    assert not made.exists() and len(str(refused.value)) < 1000
