"""Registerd and ApplyTransformd in MONAI's pipelines on small generated files: inverse, Invertd, datasets, loaders."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from monai.data import (
    CacheDataset,
    DataLoader,
    Dataset,
    MetaTensor,
    PersistentDataset,
    ThreadDataLoader,
    decollate_batch,
)
from monai.transforms import Compose, Flipd, Invertd, Lambdad, Orientationd, Spacingd

from medmi.transforms import ApplyTransformd, LoadImagePaird, Registerd, array
from medmi.transforms import dictionary as module
from medmi.validation import InputError
from tests.oracles.meta_tensors import needs_loadable_meta_tensors
from tests.transforms.making import OPTIONS, files, itk_affine, itk_resampled, labels, motion_error, pair, share_equal

LOAD = LoadImagePaird()
TURN = Orientationd(["moving"], "PIR", labels=None)


def registerd(**changes) -> Registerd:
    return Registerd(**(OPTIONS | changes))


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return files(tmp_path_factory.mktemp("pairs"), 3)


@pytest.fixture(scope="module")
def one_by_one(items):
    pipeline = Compose([LOAD, TURN, registerd()])
    return pipeline, [pipeline(item) for item in items]


def same(first: dict, second: dict) -> bool:
    keys = ("transform", "moved", "fixed", "moving")
    return all(torch.equal(torch.as_tensor(first[k]), torch.as_tensor(second[k])) for k in keys)


def test_an_item_gains_moved_and_transform(one_by_one):
    _, done = one_by_one
    for item in done:
        assert set(item) == {"fixed", "moving", "moved", "transform"}
        assert motion_error(item["transform"], 3) < 0.5
        assert item["moved"].shape == item["fixed"].shape
        assert item["moving"].applied_operations[-1]["class"] == "Orientation"


def test_inverse_brings_moved_to_the_moving_grid(one_by_one):
    pipeline, done = one_by_one
    item = dict(done[0])
    back = pipeline.inverse(item)["moved"]
    assert torch.equal(back.affine, done[0]["moving"].affine)
    expected = itk_resampled(done[0]["moved"], itk_affine(done[0]["transform"]).GetInverse(), done[0]["moving"])
    assert share_equal(back[0].as_tensor(), expected, 0.05) > 0.99


def test_invertd_carries_a_prediction_to_the_moving_grid(one_by_one):
    pipeline, done = one_by_one
    item = done[0] | {"pred": labels(done[0]["moved"])}
    out = Invertd("pred", pipeline, orig_keys="moved", nearest_interp=True)(item)["pred"]
    expected = itk_resampled(item["pred"], itk_affine(item["transform"]).GetInverse(), item["moving"], how=1)
    assert set(out.unique().tolist()) <= {0, 3, 6}
    assert share_equal(out[0].as_tensor(), expected, 0.1) > 0.99
    smooth = Invertd("pred", pipeline, orig_keys="moved", nearest_interp=False)(item)["pred"]
    assert len(smooth.unique()) > 10


def test_in_place_of_moving_a_prediction_goes_back_to_the_file_s_grid(items):
    pipeline = Compose([LOAD, TURN, registerd(moved_key="moving"), Flipd(["moving"], spatial_axis=1)])
    item = pipeline(items[0])
    item["pred"] = MetaTensor(item["moving"].as_tensor().clone())
    out = Invertd("pred", pipeline, orig_keys="moving", nearest_interp=False)(item)["pred"]
    file = LOAD(items[0])["moving"]
    assert out.shape == file.shape
    torch.testing.assert_close(out.affine, file.affine)
    assert out.applied_operations == []
    middle = (slice(10, 20),) * 3
    assert float((out[0][middle] - file[0][middle]).abs().mean()) < 0.2 * float(file[0][middle].std())


def test_invertd_of_the_fixed_side_passes_over_registration(one_by_one):
    pipeline, done = one_by_one
    item = done[0] | {"pred": labels(done[0]["fixed"])}
    out = Invertd("pred", pipeline, orig_keys="fixed")(item)["pred"]
    assert torch.equal(out.as_tensor(), item["pred"].as_tensor())


def test_labels_follow_and_come_back(items):
    keys = ["label", "moving"]
    carry = ApplyTransformd(keys, interpolation=("nearest", "bspline"))
    item = registerd()(LOAD(items[0]))
    item["label"] = labels(item["moving"])
    carried = carry(item)
    assert carried["label"].dtype == torch.uint8
    for key in keys:
        assert carried[key].shape == item["fixed"].shape
    expected = itk_resampled(item["label"], itk_affine(item["transform"]), item["fixed"], how=1)
    assert share_equal(carried["label"][0].as_tensor(), expected, 0.1) > 0.99
    back = carry.inverse(carried)
    assert torch.equal(back["label"].affine, item["label"].affine)
    inverted = Invertd("pred", carry, orig_keys="label")(carried | {"pred": carried["label"].clone()})["pred"]
    assert torch.equal(inverted.as_tensor(), back["label"].as_tensor())


def test_one_transform_for_all_items(items):
    item = LOAD(items[0])
    expected = registerd()(item)["transform"]
    fixed_for_all = ApplyTransformd("moving", transform=itk_affine(expected))(item)["moving"]
    by_key = ApplyTransformd("moving", transform_key="t", reference_key="f")(item | {"t": expected, "f": item["fixed"]})
    torch.testing.assert_close(fixed_for_all.as_tensor(), by_key["moving"].as_tensor(), atol=1e-3, rtol=1e-4)


def test_masks_by_key(items):
    item = LOAD(items[0])
    item["inside"] = MetaTensor(torch.zeros_like(item["fixed"].as_tensor()), affine=item["fixed"].affine)
    item["inside"][:, 8:, 8:] = 1
    with_mask = registerd(mask_keys=("inside", None))(item)["transform"]
    assert not torch.equal(with_mask, registerd()(item)["transform"])
    with pytest.raises(KeyError, match="absent"):
        registerd(mask_keys=(None, "absent"))(item)


def test_pending_operations_are_applied_first(items):
    halved = Spacingd(["moving"], (2.0, 2.0, 2.0))
    lazy, eager = (Compose([LOAD, halved, registerd()], lazy=lazy)(items[0]) for lazy in (True, False))
    torch.testing.assert_close(lazy["transform"], eager["transform"], atol=0.02, rtol=0)
    assert not lazy["moving"].pending_operations


def test_batches_decollate_and_invert(items, one_by_one):
    pipeline, done = one_by_one
    batch = next(iter(DataLoader(Dataset([items[0], items[0]], pipeline), batch_size=2)))
    assert batch["transform"].shape == (2, 4, 4)
    for item in decollate_batch(batch):
        assert same(item, done[0])
        assert item["moved"].meta["registration_status"] == done[0]["moved"].meta["registration_status"]
        back = pipeline.inverse(item)["moved"]
        torch.testing.assert_close(back.affine, done[0]["moving"].affine)


def test_forked_workers_give_the_same_bits(items, one_by_one):
    pipeline, done = one_by_one
    loader = DataLoader(Dataset(items, pipeline), batch_size=1, num_workers=2, multiprocessing_context="fork")
    got = [item for batch in loader for item in decollate_batch(batch)]
    assert all(same(a, b) for a, b in zip(got, done, strict=True))


@pytest.mark.slow
def test_spawned_workers_give_the_same_bits_and_invert(items):
    pipeline = Compose([LOAD, registerd()])
    loader = DataLoader(Dataset(items, pipeline), batch_size=1, num_workers=2, multiprocessing_context="spawn")
    got = [item for batch in loader for item in decollate_batch(batch)]
    here = [pipeline(item) for item in items]
    assert all(same(a, b) for a, b in zip(got, here, strict=True))
    back = pipeline.inverse(got[0])["moved"]
    assert torch.equal(back.as_tensor(), pipeline.inverse(here[0])["moved"].as_tensor())


def test_thread_workers_give_the_same_bits(items, one_by_one):
    pipeline, done = one_by_one
    loader = ThreadDataLoader(Dataset(items, pipeline), batch_size=1, num_workers=2, use_thread_workers=True)
    got = [item for batch in loader for item in decollate_batch(batch)]
    assert all(same(a, b) for a, b in zip(got, done, strict=True))


def test_cached_items_are_registered_once(items, one_by_one, monkeypatch):
    pipeline, done = one_by_one
    cached = CacheDataset(items, pipeline, progress=False, num_workers=1)
    monkeypatch.setattr(array, "register", None)
    assert all(same(cached[k], done[k]) for k in range(len(items)))
    back = pipeline.inverse(cached[0])["moved"]
    assert torch.equal(back.affine, done[0]["moving"].affine)


@needs_loadable_meta_tensors
def test_persistent_items_load_with_weights_only_and_keep_their_way_back(items, tmp_path, monkeypatch):
    pipeline = Compose([LOAD, registerd()])
    stored = [PersistentDataset(items, pipeline, tmp_path, track_meta=True, weights_only=True) for _ in range(2)]
    first = stored[0][0]
    monkeypatch.setattr(array, "register", None)
    again = stored[1][0]
    assert same(first, again)
    back = pipeline.inverse(again)["moved"]
    torch.testing.assert_close(back.affine, again["moving"].affine)


def through_a_pipe(transform):
    """The transform as a spawned worker gets it."""
    return ForkingPickler.loads(ForkingPickler.dumps(transform))


def test_transforms_travel_to_workers():
    for transform in (registerd(), ApplyTransformd("label", interpolation="nearest"), LOAD):
        assert type(through_a_pipe(transform)) is type(transform)
    fixed, moving = pair(2)
    item = {"fixed": fixed, "moving": moving}
    here, there = (t(item) for t in (registerd(), through_a_pipe(registerd())))
    assert torch.equal(here["transform"], there["transform"])


def test_missing_keys():
    item = {"fixed": pair(2)[0]}
    with pytest.raises(KeyError, match="moving"):
        registerd()(item)
    assert registerd(allow_missing_keys=True)(item) == item
    assert ApplyTransformd("label", allow_missing_keys=True)(item) == item
    both = dict(zip(("fixed", "moving"), pair(2)))
    with pytest.raises(KeyError, match="has no 'moved' to bring back"):
        registerd().inverse(both)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keys": ("fixed",)}, "keys: got"),
        ({"keys": ("fixed", "fixed")}, "keys: got"),
        ({"mask_keys": ("mask",)}, "mask_keys: got"),
        ({"moved_key": "fixed"}, "moved_key: 'fixed' is already"),
        ({"mask_keys": (None, "m"), "moved_key": "m"}, "moved_key: 'm' is already"),
        ({"transform_key": "moving"}, "transform_key: 'moving' is already"),
        ({"transform_key": "moved"}, "transform_key: 'moved' is already"),
        ({"on_failure": "skip"}, "on_failure: unknown value 'skip'"),
    ],
)
def test_refused_options(options, said):
    with pytest.raises(InputError, match=said):
        Registerd(**options)


def test_one_interpolation_a_key_is_asked():
    with pytest.raises(InputError, match="interpolation: got 3 for 2 keys"):
        ApplyTransformd(("a", "b"), interpolation=("linear",) * 3)


def test_aliases():
    for name in ("Registerd", "ApplyTransformd"):
        assert all(getattr(module, name[:-1] + end) is getattr(module, name) for end in ("D", "Dict"))
        assert getattr(module, name).backend


def test_composes_with_monai_s_own(items):
    double = Lambdad("moved", lambda image: image * 2)
    pipeline = Compose([LOAD, registerd(), double])
    item = pipeline(items[0])
    back = pipeline.inverse(item)["moved"]
    assert isinstance(item["moved"], MetaTensor)
    assert torch.equal(back.affine, item["moving"].affine)
