"""The rolling buffer: each pair made once, drawn about as often as asked, a function of its number, refusals."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from medmi.engines.batches import PairBatches
from medmi.engines.rolling import RollingPairs
from medmi.simulation.makers import StoredPairs
from medmi.validation import InputError
from tests.contracts.adversarial import PAIRS, blobs


class Counting:
    """A maker that remembers the seeds it was called with."""

    def __init__(self) -> None:
        self.stored, self.seeds = StoredPairs(blobs(3)), []

    def __call__(self, generator: torch.Generator):
        self.seeds.append(generator.initial_seed())
        return self.stored(generator)


def test_each_pair_is_made_once_and_drawn_about_as_often_as_asked():
    maker = Counting()
    stream = PairBatches(RollingPairs(maker, size=16, reuse=4), PAIRS, 8, 10)
    for step in range(60):
        stream.batch(step)
    assert max(Counter(maker.seeds).values()) == 1
    assert 60 * 16 / len(maker.seeds) == pytest.approx(4, rel=0.15)


def test_the_buffer_forgets_what_left_the_window():
    aligned = RollingPairs(Counting(), size=5, reuse=1)
    for draws in range(40):
        window = aligned.window(draws)
        for number in window:
            aligned.pair(number, window)
    assert sorted(aligned._made) == list(range(39, 44))


def test_a_pair_is_a_function_of_seed_and_number():
    first, again = (RollingPairs(StoredPairs(blobs(9)), seed=4) for _ in range(2))
    window = range(5, 9)
    assert torch.equal(first.pair(7, window)["fixed"], again.pair(7, window)["fixed"])
    numbers = [float(first.pair(n, window)["fixed"].sum()) for n in window]
    others = [float(RollingPairs(StoredPairs(blobs(9)), seed=5).pair(n, window)["fixed"].sum()) for n in window]
    assert numbers != others and len(set(numbers)) > 1


def test_the_first_pairs_are_alike_and_all_others_as_they_were():
    plain, warmed = (RollingPairs(StoredPairs(blobs(9)), size=4, alike=alike) for alike in (0, 6))
    for first in range(8):
        window = range(first, first + 4)
        for number in window:
            pair, other = warmed.pair(number, window), plain.pair(number, window)
            assert torch.equal(pair["fixed"], other["fixed"])
            assert torch.equal(pair["moving"], other["fixed" if number < 6 else "moving"])
            assert not torch.equal(other["moving"], other["fixed"])


@pytest.mark.parametrize(("name", "count"), [("size", 0), ("reuse", 0), ("alike", -1)])
def test_bad_counts_are_refused(name, count):
    with pytest.raises(InputError, match=f"{name}: {count}"):
        RollingPairs(StoredPairs(blobs(1)), **{name: count})
