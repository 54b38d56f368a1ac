"""How far a result can be trusted: in result.json, on the command's line and in the report."""

from __future__ import annotations

import json

import pytest
import torch

from medmi import register
from medmi.apps.registration import judgement, trust
from tests.oracles.command_line import run
from tests.oracles.scene import pair, truth, write_pair


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    outcome = run("register", *write_pair(folder, truth("rigid", 2), ".mha"), "-o", folder / "out")
    return folder / "out", outcome


def test_result_json_and_the_line_tell_the_same(done):
    folder, outcome = done
    summary = json.loads((folder / "result.json").read_text())
    assert 0.5 < summary["confidence"] <= 1
    assert 0 < summary["expected_error_mm"] < summary["error_limit_mm"] == 2.0
    assert outcome.out.startswith("converged: results in ") and outcome.out.count("\n") == 1
    assert f"; confidence {min(summary['confidence'], 0.99):.0%}, expected error" in outcome.out


def test_the_report_shows_it(done):
    page = (done[0] / "report.html").read_text(encoding="utf-8")
    assert "<span>confidence</span>" in page and "<span>expected error</span>" in page and "is under 2.0 mm" in page


def test_alternatives_are_plain_numbers():
    result = register(*pair(truth("rigid", 2), seed=3))
    for row, other in zip(judgement(result)["alternatives"], result.alternatives, strict=True):
        assert row == json.loads(json.dumps(row))
        assert torch.equal(torch.tensor(row["matrix_ras"], dtype=torch.float64), other.transform.matrix)
        assert (row["probability"], row["distance_mm"]) == (other.probability, other.distance_mm)


def test_what_cannot_be_judged_is_left_out():
    result = register(*pair(truth("rigid", 2)), similarity="lncc")
    assert judgement(result) == {} and trust(judgement(result)) == ""


def test_a_failed_registration_shows_no_expected_error():
    assert trust({"confidence": 0.0, "expected_error_mm": None}) == ""
