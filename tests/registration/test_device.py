"""Registration on a device: the same answers as the processor's; torch's operators stand in for a device where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.losses import LocalNormalizedCrossCorrelationLoss
from torch import nn

from medmi import register, register_batch
from medmi.registration import run
from medmi.registration.terms import TERMS
from medmi.threads import one_thread
from tests.oracles.scene import error, pair, truth

VOXEL_MM = 2.0
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: its solver is not tested")


STAND_IN = "torch's operators on the processor"


def matrix_of(images: tuple[MetaTensor, MetaTensor], **options: Any) -> torch.Tensor:
    return register(*images, **options).transform.matrix


@pytest.fixture(params=[STAND_IN, pytest.param("cuda", marks=cuda)])
def on_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function with a device that the compiled loops do not run on."""

    def call(function: Callable[..., Any], *values: Any, **options: Any) -> Any:
        if request.param == "cuda":
            return function(*values, **options, device="cuda")
        with monkeypatch.context() as patch:
            patch.setattr(run, "COMPILED", frozenset())
            return function(*values, **options)

    return call


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(
    ("d", "family", "initial"), [(3, "rigid", "auto"), (2, "affine", "identity"), (2, "homography", "identity")]
)
def test_ends_where_the_compiled_loops_end(on_device, name, d, family, initial):
    images = pair(truth(family, d), "same" if name in ("ncc", "ssd") else "other")
    options = {"transform": family, "similarity": name, "initial": initial}
    compiled, ours = matrix_of(images, **options), on_device(matrix_of, images, **options)
    assert error(ours, compiled.numpy()) < 0.05 * VOXEL_MM
    assert not torch.equal(ours, compiled), "the compiled loops ran"


def test_same_seed_same_bits(on_device):
    images = pair(truth("rigid", 3))
    assert torch.equal(on_device(matrix_of, images, preset="fast"), on_device(matrix_of, images, preset="fast"))


def test_many_pairs_each_as_alone(on_device):
    pairs = [pair(truth("rigid", 2)), pair(truth("translation", 2))]
    together = on_device(register_batch, pairs, preset="fast", threads=2)
    # On a processor the order of sums in torch's products goes by its threads, of which every pair of many has one.
    with one_thread():
        alone = [on_device(matrix_of, images, preset="fast") for images in pairs]
    assert all(torch.equal(result.transform.matrix, matrix) for result, matrix in zip(together, alone))


@cuda
@pytest.mark.parametrize("name", ["lncc", "mind", "lc2", "mine"])
def test_terms_of_whole_grids_and_critics_end_near_those_of_the_processor(name):
    images = pair(truth("rigid", 3))
    assert error(matrix_of(images, similarity=name, device="cuda"), matrix_of(images, similarity=name).numpy()) < 0.4


@cuda
def test_images_on_the_device_are_taken_and_moved_there():
    fixed, moving = pair(truth("rigid", 3))
    result = register(fixed.cuda(), moving.cuda(), device="cuda")
    assert torch.equal(result.transform.matrix, matrix_of((fixed, moving), device="cuda"))
    assert result.moved.device.type == "cuda" and result.confidence is not None


@cuda
def test_a_loss_object_stays_where_it_is():
    loss: nn.Module = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=3)
    matrix_of(pair(truth("rigid", 3)), similarity=loss, device="cuda")
    assert all(tensor.device.type == "cpu" for tensor in [*loss.buffers(), *loss.parameters()])
