"""Makers of aligned pairs: what they draw, where the ultrasound lies, seeds, refusals."""

from __future__ import annotations

import pytest
import torch

from medmi.simulation.augmentation import Augmentation
from medmi.simulation.makers import PartlyKnownPairs, StoredPairs, UltrasoundPairs
from medmi.simulation.sources import Source, block_means, centred_grid
from medmi.validation import InputError

GRID = centred_grid((48, 40), 2.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sources(count: int = 3, moving: bool = True) -> list[Source]:
    """Bright discs, brighter along y, that differ from patient to patient."""
    found = []
    for number in range(count):
        radius = (GRID.points() - torch.tensor([3.0 * number, 0.0])).norm(dim=-1)
        image = (0.3 + 0.2 * number + 0.01 * GRID.points()[..., 1]).float() * (radius < 30)
        found.append(Source(image, 1 - image if moving else None, (4, 6), (44, 34)))
    return found


def test_stored_pairs_are_drawn_whole():
    given, seen = sources(), set()
    for seed in range(30):
        pair = StoredPairs(given, pool=2)(seeded(seed))
        match = [n for n, s in enumerate(given) if torch.equal(block_means(s.fixed, 2)[None], pair["fixed"])]
        assert len(match) == 1 and torch.equal(pair["moving"], block_means(given[match[0]].moving, 2)[None])
        seen.add(match[0])
    assert seen == {0, 1, 2}


def test_ultrasound_lies_within_the_image_and_shows_its_disc():
    make = UltrasoundPairs(sources(1, moving=False), GRID, crop=0.0)
    pair = make(seeded())
    box = torch.zeros(48, 40, dtype=torch.bool)
    box[4:44, 6:34] = True
    assert torch.equal(pair["fixed"][0], sources(1)[0].fixed)
    assert float(pair["moving"][0][~box].abs().max()) == 0 and float(pair["moving"].max()) == 1
    assert float((pair["moving"][0] > 0)[box].float().mean()) > 0.4


def test_parts_and_probes_change_and_stay_within_the_crop():
    make = UltrasoundPairs(sources(1, moving=False), GRID, crop=0.25)
    seen = [make(seeded(seed))["moving"][0] > 0 for seed in range(40)]
    edges = torch.tensor([[int(s.any(1).nonzero()[0]), int(s.any(1).nonzero()[-1])] for s in seen])
    assert len(edges[:, 0].unique()) > 5 and int(edges[:, 0].min()) >= 4 and int(edges[:, 1].max()) < 44
    assert torch.equal(make(seeded(3))["moving"], make(seeded(3))["moving"])


def test_both_images_are_averaged_over_blocks():
    fine = UltrasoundPairs(sources(1, moving=False), GRID)(seeded(2))
    coarse = UltrasoundPairs(sources(1, moving=False), GRID, pool=4)(seeded(2))
    for role in ("fixed", "moving"):
        assert coarse[role].shape == (1, 12, 10)
        torch.testing.assert_close(coarse[role][0], block_means(fine[role][0], 4))


def test_covers_are_the_box_and_the_fan_and_change_no_draw():
    make, plain = (UltrasoundPairs(sources(1, moving=False), GRID, pool=2, covers=c) for c in (True, False))
    for seed in range(5):
        pair, same = make(seeded(seed)), plain(seeded(seed))
        assert all(torch.equal(pair[role], same[role]) for role in ("fixed", "moving"))
        box = torch.zeros(1, 24, 20)
        box[0, 2:22, 3:17] = 1
        assert torch.equal(pair["fixed_cover"], box)
        fan = pair["moving_cover"]
        assert fan.shape == box.shape and set(fan.unique().tolist()) == {0.0, 1.0}
        assert bool((fan <= box).all()) and 0.2 < float(fan.sum() / box.sum()) < 1
        # Nearly all that echoes lies in it: blocks at its rim are covered in part.
        assert float((pair["moving"] * fan).sum() / pair["moving"].sum()) > 0.8


@pytest.mark.parametrize("kind", ["stored", "ultrasound"])
def test_augmentation_changes_both_images_each_its_own_way(kind):
    def made(augmentation: Augmentation | None) -> dict[str, torch.Tensor]:
        if kind == "stored":
            return StoredPairs(sources(1), 1, augmentation)(seeded())
        return UltrasoundPairs(sources(1, False), GRID, augmentation=augmentation)(seeded())

    changed, plain = made(Augmentation(noise=0.1)), made(None)
    differences = [changed[role] - plain[role] for role in ("fixed", "moving")]
    assert all(float(d.abs().mean()) > 1e-3 for d in differences) and not torch.equal(*differences)


def test_a_share_of_the_pairs_is_known_and_says_so():
    known, unknown = StoredPairs(sources(1)), StoredPairs(sources(3)[2:])
    make, others = PartlyKnownPairs(known, unknown, 0.3), [m(seeded())["fixed"] for m in (unknown, known)]
    pairs = [make(seeded(seed)) for seed in range(400)]
    assert all(pair["known"].shape == () and torch.equal(pair["fixed"], others[int(pair["known"])]) for pair in pairs)
    # Three standard deviations of 400 draws.
    assert sum(float(pair["known"]) for pair in pairs) / 400 == pytest.approx(0.3, abs=0.07)
    assert all(float(PartlyKnownPairs(known, unknown, 1.0)(seeded(seed))["known"]) == 1 for seed in range(20))


def test_bad_settings_are_refused():
    for maker in (lambda s: StoredPairs(s), lambda s: UltrasoundPairs(s, GRID)):
        with pytest.raises(InputError, match="sources: none"):
            maker([])
    with pytest.raises(InputError, match="source: has no moving image"):
        StoredPairs(sources(1, moving=False))
    for maker in (lambda: StoredPairs(sources(), 7), lambda: UltrasoundPairs(sources(), GRID, pool=7)):
        with pytest.raises(InputError, match=r"pool: 7 came; a divisor of the sources' \(48, 40\)"):
            maker()
    with pytest.raises(InputError, match=r"crop: 0\.5"):
        UltrasoundPairs(sources(), GRID, crop=0.5)
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match=f"share: {share}"):
            PartlyKnownPairs(StoredPairs(sources()), StoredPairs(sources()), share)
