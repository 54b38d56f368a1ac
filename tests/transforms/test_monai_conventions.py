"""What MONAI asks of a component, for every public one: transforms, losses, metrics, networks, and geometry."""

from __future__ import annotations

import ast
import inspect
import pathlib
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from monai.data import MetaTensor
from monai.data.utils import list_data_collate
from monai.metrics import CumulativeIterationMetric
from monai.transforms import InvertibleTransform, LazyTransform, MapTransform, Randomizable, ResampleToMatch, Transform
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

import medmi.losses
import medmi.metrics
import medmi.networks
import medmi.transforms
from medmi.grid import Grid
from medmi.losses.base import SimilarityLoss
from medmi.spatial import chain
from medmi.transforms import ApplyTransform, ApplyTransformd, Register, Registerd
from tests.oracles.meta_tensors import loaded, needs_loadable_meta_tensors
from tests.transforms.making import OPTIONS, itk_affine, itk_resampled, motion, pair
from tests.transforms.test_apply import FIXED, LINEAR, MOVING, wave

PACKAGE = pathlib.Path(medmi.transforms.__file__).parents[1]


def classes(module, kind: type) -> list[type]:
    found = [getattr(module, name) for name in module.__all__]
    return list(dict.fromkeys(c for c in found if inspect.isclass(c) and issubclass(c, kind)))


ARRAYS = [c for c in classes(medmi.transforms, Transform) if not issubclass(c, MapTransform)]
DICTIONARIES = classes(medmi.transforms, MapTransform)
LOSSES = classes(medmi.losses, _Loss)
SIMILARITIES = [c for c in LOSSES if issubclass(c, SimilarityLoss)]
METRICS = [c for c in classes(medmi.metrics, object) if c.__name__.endswith("Metric")]
PAIR_NETWORKS = [c for c in classes(medmi.networks, torch.nn.Module) if "Registration" in c.__name__]
SPATIAL_NETWORKS = [
    *PAIR_NETWORKS,
    *(medmi.networks.ImagePairCritic, medmi.networks.ImageValuesCritic, medmi.networks.InfoMaxEncoder),
]


def made(kind: type):
    """One of a dictionary transform, with keys where it has no default."""
    needed = inspect.signature(kind).parameters["keys"].default is inspect.Parameter.empty
    return kind("image") if needed else kind()


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_transforms_have_keys_aliases_and_may_miss_keys(kind):
    assert kind.__name__.endswith("d")
    for end in ("D", "Dict"):
        assert getattr(medmi.transforms, kind.__name__[:-1] + end) is kind
    names = list(inspect.signature(kind).parameters)
    assert names[0] == "keys" and "allow_missing_keys" in names
    assert isinstance(ForkingPickler.loads(ForkingPickler.dumps(made(kind))), kind)


@pytest.mark.parametrize("kind", [*ARRAYS, Registerd, ApplyTransformd])
def test_transforms_of_images_say_their_backend_and_are_invertible_neither_lazy_nor_random(kind):
    assert [b.value for b in kind.backend] == ["torch"]
    assert issubclass(kind, InvertibleTransform)
    assert not issubclass(kind, LazyTransform | Randomizable)


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_nothing_draws_from_the_global_state(kind):
    image = {"image": pair(3)[0]}
    assert not issubclass(kind, Randomizable)
    if kind is medmi.transforms.SimulateUltrasoundd:
        state = torch.get_rng_state()
        first, second = (kind("image", seed=3)(image)["image"] for _ in range(2))
        assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), state)


def leaves(value) -> list[object]:
    """Every value in nested lists and mappings."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return [value] if inner is None else [leaf for one in inner for leaf in leaves(one)]


RECORDED = {
    "matrix": LINEAR,
    "displacements": wave(Grid.of(FIXED)),
    "chain": chain([LINEAR, wave(Grid.of(FIXED))]),
    "SimpleITK": itk_affine(motion(3)),
}


@pytest.mark.parametrize("kind", RECORDED)
def test_records_hold_numbers_and_tensors_under_the_same_keys(kind):
    moved = ApplyTransform()(MOVING, RECORDED[kind], FIXED)
    (record,) = moved.applied_operations
    (other,) = Register(**OPTIONS)(*pair(2))[0].applied_operations
    assert set(record) == set(other) and set(record["extra_info"]) == set(other["extra_info"])
    assert all(isinstance(leaf, str | bool | int | float | torch.Tensor) for leaf in leaves(record))
    list_data_collate([{"moved": moved}, {"moved": moved}])


@needs_loadable_meta_tensors
@pytest.mark.parametrize("kind", RECORDED)
def test_records_load_with_weights_only(kind):
    moved = ApplyTransform()(MOVING, RECORDED[kind], FIXED)
    again = loaded(moved)
    assert torch.equal(again, moved)
    pairs = zip(leaves(again.applied_operations), leaves(moved.applied_operations), strict=True)
    assert all(torch.equal(a, b) if isinstance(b, torch.Tensor) else a == b for a, b in pairs)


def test_moved_is_new_on_the_fixed_grid_and_in_ras():
    fixed, moving = pair(3)
    item = Registerd(**OPTIONS)({"fixed": fixed, "moving": moving})
    assert item["fixed"] is fixed and item["moving"] is moving
    assert item["moved"].shape == fixed.shape and torch.equal(item["moved"].affine, fixed.affine)
    assert str(item["moved"].meta["space"].value) == "RAS"


def test_monai_s_own_resampling_by_the_matrix_gives_the_same_image():
    """``inv(T)`` on the moving affine, then ResampleToMatch; its edges differ, the interior must not."""
    turned = MetaTensor(MOVING.as_tensor(), affine=torch.linalg.inv(motion(3)) @ MOVING.affine)
    match = ResampleToMatch(mode="bilinear", padding_mode="zeros", dtype=torch.float64)
    theirs = match(turned, FIXED).as_tensor()
    ours = ApplyTransform()(MOVING, motion(3), FIXED).as_tensor()
    inner = MetaTensor(torch.zeros_like(MOVING.as_tensor()), affine=MOVING.affine)
    inner[:, 1:-1, 1:-1, 1:-1] = 1
    inside = itk_resampled(inner, itk_affine(motion(3)), FIXED) > 0.999
    assert float(inside.double().mean()) > 0.1
    assert float((theirs - ours)[0][inside].abs().max()) < 1e-5 * float(MOVING.abs().max())


def test_nothing_goes_through_the_itk_bridge():
    """MONAI's bridge returns LPS without saying so and mutates what it is given."""
    imported = [
        getattr(node, "module", None) or alias.name
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert "monai.data" in imported and not [name for name in imported if "itk_torch_bridge" in name]


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_losses_take_monai_s_reductions_and_store_no_constants(kind):
    images = torch.rand(2, 1, 24, 23, generator=torch.Generator().manual_seed(0)), torch.rand(2, 1, 24, 23)
    values = {}
    for reduction in LossReduction:
        torch.manual_seed(0)
        values[reduction] = kind(reduction=reduction)(*images)
    assert values[LossReduction.NONE].shape[0] == 2
    torch.testing.assert_close(values[LossReduction.MEAN], values[LossReduction.NONE].mean())
    torch.testing.assert_close(values[LossReduction.SUM], values[LossReduction.NONE].sum())
    loss = kind()
    # What a loss that learns needs to go on, draws and running means, is state; a table of bins is not.
    state = {"_extra_state"} if list(loss.parameters()) else set()
    assert set(loss.state_dict()) == {name for name, _ in loss.named_parameters()} | state
    with pytest.raises(ValueError, match="must agree"):
        loss(images[0], images[1][..., 1:])


@pytest.mark.parametrize("kind", METRICS)
def test_metrics_are_monai_s(kind):
    assert issubclass(kind, CumulativeIterationMetric)
    assert "reduction" in inspect.signature(kind).parameters


@pytest.mark.parametrize("kind", SPATIAL_NETWORKS)
def test_networks_name_their_dimension_first(kind):
    assert next(iter(inspect.signature(kind).parameters)) == "spatial_dims"


@pytest.mark.parametrize("kind", PAIR_NETWORKS)
def test_networks_can_be_exported(kind):
    network = kind(2, 32).eval()
    images = torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)
    exported = torch.export.export(network, images)
    torch.testing.assert_close(exported.module()(*images), network(*images))
