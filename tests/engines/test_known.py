"""Batches whose truths are known in part: what they hold, what the supervised loss makes of them, what never matters."""

from __future__ import annotations

import math

import pytest
import torch

from medmi.engines.adversarial import Prediction, supervised_loss
from medmi.engines.batches import PairBatches
from medmi.engines.options import AdversarialOptions
from medmi.engines.rolling import RollingPairs
from medmi.simulation.makers import PartlyKnownPairs, StoredPairs
from medmi.threads import one_thread
from tests.contracts.adversarial import GRID, PAIRS, blobs, partly_known, trainer, weights

LOSS = supervised_loss(GRID)
MIXED = AdversarialOptions(n_critic=2, reconstruction_weight=0.5, second_pass=0.5)


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def prediction(known: torch.Tensor | None) -> Prediction:
    """Five poses, of which those that are not known have no truth."""
    source = torch.Generator().manual_seed(3)
    matrix, truth = (torch.eye(3) + 0.1 * torch.randn(5, 3, 3, generator=source, dtype=torch.float64) for _ in range(2))
    for both in (matrix, truth):
        both[:, 2] = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    if known is not None:
        truth[known == 0] = math.nan
    image = torch.zeros(5, 1, 20, 24)
    return Prediction(image, image, matrix.requires_grad_(), truth, known)


def test_the_truth_is_blank_where_it_is_not_known_and_all_else_is_as_it_was():
    stream = partly_known(16)
    batch, known = stream.batch(0), stream.batch(0)["known"] > 0
    assert 0 < int(known.sum()) < 16 and bool(batch["truth"][~known].isnan().all())
    stream.aligned.maker = lambda generator, make=stream.aligned.maker: {
        name: value for name, value in make(generator).items() if name != "known"
    }
    stream.aligned._made.clear()
    plain = stream.batch(0)
    assert batch.keys() - plain.keys() == {"known"}
    assert torch.equal(batch["truth"][known], plain["truth"][known])
    assert all(torch.equal(batch[name], plain[name]) for name in plain if name != "truth")


def test_registered_examples_come_from_known_patients_alone():
    """Of patients told apart by their brightness."""
    dim, bright = ([type(s)(s.fixed + level, s.moving, s.low, s.high) for s in blobs(3)] for level in (0, 100))
    known = StoredPairs(dim)
    drawn = RollingPairs(PartlyKnownPairs(known, StoredPairs(bright)), 20, 2)
    stream = PairBatches(drawn, PAIRS, 8, 3, registered=RollingPairs(known, 20, 2))
    for step in range(5):
        batch = stream.batch(step)
        assert float(batch["registered_fixed"].max()) < 10
        assert torch.equal(batch["fixed"].amax((1, 2, 3)) < 10, batch["known"] > 0)


def test_the_supervised_loss_is_that_of_the_known_samples():
    known = torch.tensor([1.0, 0, 0, 1, 1])
    part, whole = prediction(known), prediction(None)
    kept = Prediction(*(value[known > 0] for value in (whole.fixed, whole.moved, whole.matrix, whole.truth)))
    loss, expected = LOSS(part), LOSS(kept)
    torch.testing.assert_close(loss, expected)
    loss.backward(), expected.backward()
    torch.testing.assert_close(part.matrix.grad, whole.matrix.grad)
    assert float(part.matrix.grad[1:3].abs().max()) == 0
    torch.testing.assert_close(LOSS(prediction(torch.ones(5))), LOSS(whole))


def test_the_supervised_loss_of_none_is_zero_and_pulls_nowhere():
    nothing = prediction(torch.zeros(5))
    loss = LOSS(nothing)
    loss.backward()
    assert float(loss.detach()) == 0 and float(nothing.matrix.grad.abs().max()) == 0


class Perturbed:
    """A stream whose unknown truths are other numbers than NaN."""

    def __iter__(self):
        for batch in partly_known():
            unknown = batch["known"] == 0
            batch["truth"][unknown] = torch.eye(3, dtype=torch.float64) + 0.2 * float(unknown.sum())
            yield batch

    def __len__(self):
        return 3


def test_truths_that_are_not_known_change_no_bit():
    runs = [trainer(MIXED, 2, stream, LOSS) for stream in (partly_known(), Perturbed())]
    for training in runs:
        training.run()
    assert all(bool(w.isfinite().all()) for w in weights(runs[0]))
    assert all(torch.equal(a, b) for a, b in zip(weights(runs[0]), weights(runs[1]), strict=True))
