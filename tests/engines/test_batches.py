"""Training batches: explicit pairs, repeatable by number, one resampling from the source, refusals."""

from __future__ import annotations

import pytest
import torch

from medmi.engines.batches import PairBatches
from medmi.engines.rolling import RollingPairs
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError
from tests.contracts.adversarial import GRID, PAIRS, aligned, batches

IMAGES = ("fixed", "moving", "source", "registered_fixed", "registered_moving")


def test_a_batch_is_a_function_of_seed_and_number():
    stream = iter(batches())
    first, second = next(stream), next(stream)
    assert all(torch.equal(second[k], batches().batch(1)[k]) for k in second)
    assert not torch.equal(first["moving"], second["moving"])
    assert not torch.equal(first["moving"], batches(seed=1).batch(0)["moving"])


def test_shapes():
    batch = batches().batch(0)
    assert all(batch[k].shape == (4, 1, 20, 24) and batch[k].dtype == torch.float32 for k in IMAGES)
    assert all(batch[k].shape == (4, 3, 3) and batch[k].dtype == torch.float64 for k in ("start", "truth"))
    assert batch.keys() == {*IMAGES, "start", "truth"}


def dark(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """How far moving is from what fixed says: dark is half of what bright lacks, by an amount that each pair has."""
    rest = moving + 0.5 * fixed
    return (rest - rest.mean((1, 2, 3), keepdim=True)).abs().mean()


def test_truth_brings_the_source_back_in_place():
    batch = PairBatches(aligned(), PAIRS, 16, 3).batch(0)
    moved = resample_replicated(batch["source"], GRID, batch["start"] @ batch["truth"], GRID)
    assert float(dark(batch["fixed"], moved)) < 1e-5 < 0.02 < float(dark(batch["fixed"], batch["moving"]))
    assert torch.equal(resample_replicated(batch["source"], GRID, batch["start"], GRID), batch["moving"])


def test_registered_examples_are_other_draws_in_place():
    batch = PairBatches(aligned(60), PAIRS, 8, 3).batch(0)
    assert float(dark(batch["registered_fixed"], batch["registered_moving"])) < 1e-5
    assert not any(torch.equal(a, b) for a, b in zip(batch["registered_fixed"], batch["fixed"]))


def test_registered_examples_may_be_left_out():
    batch = PairBatches(aligned(), PAIRS, 4, 3, registered=False).batch(0)
    assert batch.keys() == {"fixed", "moving", "source", "start", "truth"}


def test_covers_come_along_where_the_pairs_have_them():
    half = torch.zeros(1, *GRID.shape)
    half[..., 12:] = 1

    def covered(generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {**aligned().maker(generator), "fixed_cover": half, "moving_cover": 1 - half}

    batch, plain = (
        PairBatches(RollingPairs(maker, 20, 2), PAIRS, 4, 3).batch(0) for maker in (covered, aligned().maker)
    )
    assert batch.keys() - plain.keys() == {"fixed_cover", "source_cover"}
    assert all(torch.equal(batch[name], plain[name]) for name in plain)
    assert torch.equal(batch["source_cover"], (1 - half).repeat(4, 1, 1, 1))
    assert batch["fixed_cover"].shape == batch["fixed"].shape and 0.2 < float(batch["fixed_cover"].mean()) < 0.5


def test_a_stream_goes_on_from_a_stored_number():
    stream, other = batches(), batches()
    walking = iter(stream)
    for _ in range(5):
        next(walking)
    other.load_state_dict(stream.state_dict())
    assert torch.equal(next(iter(other))["moving"], next(walking)["moving"])


@pytest.mark.parametrize("setting", ["batch_size", "length"])
def test_bad_settings_are_refused(setting):
    with pytest.raises(InputError, match=f"{setting}: 0"):
        PairBatches(aligned(), PAIRS, **{"batch_size": 1, "length": 1, setting: 0})
