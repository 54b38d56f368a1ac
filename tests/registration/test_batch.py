"""Many pairs in one call: the same bits as one by one, at any number of threads, and what is refused."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from medmi import InputError, register, register_batch
from medmi.io import write_image
from medmi.registration.dense import DENSE_TERMS
from tests.oracles.scene import pair, truth

OPTIONS = {"preset": "fast", "seed": 3}
KINDS = [("rigid", 2), ("translation", 3), ("rigid", 3), ("similarity", 2)]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[MetaTensor, MetaTensor]]:
    return [pair(truth(family, dims)) for family, dims in KINDS]


@pytest.fixture(scope="module")
def one_by_one(pairs):
    return [register(*images, **OPTIONS) for images in pairs]


def same(a, b) -> bool:
    return (
        torch.equal(a.transform.matrix, b.transform.matrix)
        and (a.status, a.similarity, a.overlap, a.history) == (b.status, b.similarity, b.overlap, b.history)
        and torch.equal(a.moved.as_tensor(), b.moved.as_tensor())
    )


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_batch_gives_the_bits_of_each_pair_alone_in_their_order(pairs, one_by_one, threads):
    found = register_batch(pairs, threads=threads, **OPTIONS)
    assert len(found) == len(pairs)
    assert all(same(a, b) for a, b in zip(found, one_by_one))


@pytest.mark.parametrize("similarity", DENSE_TERMS)
def test_losses_of_the_whole_grid_too(pairs, similarity):
    options = {"similarity": similarity, "preset": "fast", "initial": "identity"}
    found = register_batch(pairs[:2], threads=2, **options)
    assert all(same(a, register(*images, **options)) for a, images in zip(found, pairs[:2]))


def test_options_reach_every_pair(pairs):
    found = register_batch(
        pairs[2:3], transform=["translation", "rigid"], similarity="ncc", initial="moments", **OPTIONS
    )
    alone = register(*pairs[2], transform=["translation", "rigid"], similarity="ncc", initial="moments", **OPTIONS)
    assert same(found[0], alone) and found[0].transform.family == "rigid"


def test_masks_and_paths(pairs, tmp_path):
    fixed, moving = pairs[2]
    mask = MetaTensor((fixed.as_tensor() > fixed.as_tensor().mean()).float(), affine=fixed.affine)
    for name, image in (("fixed", fixed), ("moving", moving)):
        write_image(image, tmp_path / f"{name}.nii.gz")
    paths = (tmp_path / "fixed.nii.gz", str(tmp_path / "moving.nii.gz"))
    masked, read = register_batch([(fixed, moving, mask, None), paths], **OPTIONS)
    assert same(masked, register(fixed, moving, fixed_mask=mask, **OPTIONS))
    assert same(read, register(*paths, **OPTIONS))


def test_no_pairs_give_no_results():
    assert register_batch([]) == []


def test_progress_is_told_pair_by_pair(pairs, capsys):
    told: list[float] = []
    register_batch(pairs, progress=told.append, threads=2, **OPTIONS)
    assert told == [0.25, 0.5, 0.75, 1.0]
    register_batch(pairs[:1], progress=True, **OPTIONS)
    assert capsys.readouterr().out.strip() == ""


def test_the_threads_of_torch_are_as_before(pairs):
    before = torch.get_num_threads()
    register_batch(pairs[:2], threads=2, **OPTIONS)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:99"}, "device: cuda:99 cannot be used here"),
        ({"device": torch.device("mps")}, "device: mps came; choose cpu or cuda"),
        ({"threads": 0}, "threads: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"transform": "rigd"}, "did you mean 'rigid'"),
        ({"similarity": "mutual"}, "similarity: unknown value 'mutual'"),
        ({"preset": "quick"}, "preset: unknown value 'quick'"),
    ],
)
def test_options_are_refused_before_anything_runs(options, message):
    with pytest.raises(InputError, match=message):
        register_batch([("no-such-file.nii.gz", "nor-this.nii.gz")], **options)


def test_a_pair_that_cannot_be_used_is_named(pairs):
    flat = (pairs[0][0], pairs[2][1])
    with pytest.raises(InputError, match=r"pairs\[1\]: fixed is 2D"):
        register_batch([pairs[0], flat, pairs[2]], threads=2, **OPTIONS)
    for wrong, message in [
        (pairs[0][:1], r"pairs\[0\]: got tuple of length 1; \(fixed, moving\) or"),
        ((*pairs[0], None), r"pairs\[0\]: got tuple of length 3"),
        ("ab", r"pairs\[0\]: got str of length 2"),
        (pairs[0][0], r"pairs\[0\]: got MetaTensor"),
    ]:
        with pytest.raises(InputError, match=message):
            register_batch([wrong])
