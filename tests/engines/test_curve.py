"""The curve: rows after each epoch, resumed runs, TensorBoard events, its absence."""

from __future__ import annotations

import sys

import pytest

from medmi.engines.checkpoints import Checkpoints, load_checkpoint
from medmi.engines.curve import COLUMNS, Curve
from medmi.engines.stopping import EarlyStop
from medmi.threads import one_thread
from medmi.validation import InputError
from tests.contracts.adversarial import batches, trainer


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def followed(folder, max_epochs: int = 3, tensorboard: bool = False):
    training, curve = trainer(max_epochs=max_epochs), Curve(folder, tensorboard)
    EarlyStop([batches(4, 1, seed=3).batch(0)], None).attach(training)
    curve.attach(training)
    return training, curve


def test_each_epoch_is_a_row_of_numbers(tmp_path):
    training, curve = followed(tmp_path / "new")
    training.run()
    rows = curve.rows()
    assert [row["iteration"] for row in rows] == ["3", "6", "9"] and tuple(rows[0]) == COLUMNS
    assert all(float(row[name]) == float(row[name]) for row in rows for name in COLUMNS)
    assert float(rows[-1]["error_mm"]) == training.state.metrics["error_mm"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["curve.csv"]


def test_a_resumed_run_writes_no_row_twice(tmp_path):
    whole, curve = followed(tmp_path / "whole", 4)
    whole.run()
    first, _ = followed(tmp_path / "parts", 2)
    Checkpoints(tmp_path / "parts").run(first)
    unsaved, _ = followed(tmp_path / "parts", 3)
    load_checkpoint(unsaved, tmp_path / "parts" / "checkpoint.pt")
    unsaved.run()
    second, again = followed(tmp_path / "parts", 4)
    load_checkpoint(second, tmp_path / "parts" / "checkpoint.pt")
    second.run()
    assert again.rows() == curve.rows() and len(again.rows()) == 4


def test_tensorboard_shows_the_same(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    training, curve = followed(tmp_path, tensorboard=True)
    training.run()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("error_mm")]
    rows = [(int(row["iteration"]), pytest.approx(float(row["error_mm"]), rel=1e-5)) for row in curve.rows()]
    assert found == rows and set(events.Tags()["scalars"]) == set(COLUMNS[2:])


def test_tensorboard_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'medmi\[tensorboard\]'"):
        Curve(tmp_path, tensorboard=True)
