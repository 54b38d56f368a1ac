"""Trained networks in use: passes that compose, poses in the images' own worlds, network files, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.networks.registration_architecture import Architecture
from medmi.networks.registration_passes import passed_poses
from medmi.networks.registration_predictor import RegistrationPredictor, StackedPairNetwork
from medmi.simulation.sources import centred_grid
from medmi.spatial.linear import linear_matrix
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, oblique_grid

SMALL = Architecture(2, 16, 3.0, design="published", channels=4, pool=2)
CUBE = dataclasses.replace(SMALL, spatial_dims=3, design="modern", image_size=20, stages=1)


def steady(architecture: Architecture = SMALL):
    """A network that gives nearly the same parameters for every pair."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architecture.generator()
    with torch.no_grad():
        network.head.bias.copy_(torch.linspace(-0.3, 0.4, len(network.head.bias)))
        network.head.weight.fill_(0.02)
    return network.eval()


def image(grid: Grid, seed: int) -> MetaTensor:
    return MetaTensor(torch.rand(1, *grid.shape, generator=torch.Generator().manual_seed(seed)), affine=grid.affine)


def test_passes_see_the_source_at_the_composed_pose():
    network, grid, wide = steady(), SMALL.grid, SMALL.source_grid
    generator = torch.Generator().manual_seed(1)
    fixed, source = torch.rand(2, 1, 16, 16, generator=generator), torch.rand(2, 1, 24, 24, generator=generator)
    start = linear_matrix(torch.tensor([[3.0, -2, 0.1], [0, 5, -0.2]]), "rigid", 2)
    pose, found = start, passed_poses(network, fixed, source, start, (grid, wide), passes=3)
    for step in range(3):
        seen = resample_replicated(source, wide, pose, grid)
        pose = pose @ linear_matrix(network(fixed, seen), "rigid", 2, grid.centre)
        torch.testing.assert_close(found[step], pose)
    assert len(found) == 3
    with pytest.raises(InputError, match="passes: 0"):
        passed_poses(network, fixed, source, start, (grid, wide), passes=0)


@pytest.mark.parametrize(("architecture", "spatial_dims"), [(SMALL, 2), (CUBE, 3)])
def test_the_transform_is_about_the_fixed_images_middle_in_world_mm(architecture, spatial_dims):
    """With a head of bias alone the parameters are known; one pass turns about the fixed image's middle."""
    network = steady(architecture)
    torch.nn.init.zeros_(network.head.weight)
    fixed, moving = image(oblique_grid(SHAPES[spatial_dims]), 1), image(oblique_grid(SHAPES[spatial_dims], seed=1), 2)
    found = RegistrationPredictor(network, architecture, ("a", "b"), passes=2)(fixed, moving)
    parameters = network.head.bias.detach() * network.scale
    once = linear_matrix(parameters, "rigid", spatial_dims, Grid.of(fixed).centre)
    np.testing.assert_allclose(found.matrix.numpy(), (once @ once).numpy(), atol=1e-6)
    assert found.family == "rigid" and found.spatial_dims == spatial_dims


def test_an_image_is_seen_as_in_training_wherever_it_lies():
    """Carrying both images to another place of the world changes where the transform lies and nothing else."""
    predictor = RegistrationPredictor(steady(), SMALL, ("a", "b"))
    grid, shift = centred_grid((30, 26), 2.0), torch.tensor([100.0, -40.0])
    affine = grid.affine.clone()
    affine[:2, 2] += shift
    fixed, moving = image(grid, 1), image(grid, 2)
    here = predictor(fixed, moving)
    there = predictor(MetaTensor(fixed.as_tensor(), affine=affine), MetaTensor(moving.as_tensor(), affine=affine))
    points = grid.points().reshape(-1, 2)
    torch.testing.assert_close(there.points(points + shift), here.points(points) + shift)
    assert float((here.points(points) - points).norm(dim=1).mean()) > 1


def test_network_files_come_back_whole(tmp_path):
    predictor = RegistrationPredictor(steady(), SMALL, ("T1", "US"), passes=3)
    predictor.save(tmp_path / "network.pt")
    found = RegistrationPredictor.load(tmp_path / "network.pt")
    assert found.architecture == SMALL and found.modalities == ("T1", "US") and found.passes == 3
    images = [image(centred_grid((30, 26), 2.0), seed) for seed in (1, 2)]
    assert torch.equal(found(*images).matrix, predictor(*images).matrix)
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt"]
    torch.load(tmp_path / "network.pt", weights_only=True)


def test_files_that_are_none_or_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "network.pt"
    with pytest.raises(InputError, match="no such file"):
        RegistrationPredictor.load(path)
    path.write_bytes(b"not a network")
    with pytest.raises(InputError, match="damaged or no network file"):
        RegistrationPredictor.load(path)
    torch.save({"format": 1, "generator": {}}, path)
    with pytest.raises(InputError, match=r"is no network file; a training's checkpoint\.pt resumes it"):
        RegistrationPredictor.load(path)
    torch.save([1], path)
    with pytest.raises(InputError, match=r"is no network file$"):
        RegistrationPredictor.load(path)
    RegistrationPredictor(steady(), SMALL, ("T1", "US")).save(path)
    state = torch.load(path, weights_only=True)
    for name, value in (
        ("architecture", {**state["architecture"], "channels": 5}),
        ("architecture", {"colour": "red"}),
        ("modalities", ["T1"]),
        ("passes", None),
        ("generator", {}),
    ):
        torch.save({**state, name: value}, path)
        with pytest.raises(InputError, match="do not fit what it says of them"):
            RegistrationPredictor.load(path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"format": RegistrationPredictor}, tmp_path / "network.pt")
    with pytest.raises(InputError, match="damaged or no network file"):
        RegistrationPredictor.load(tmp_path / "network.pt")


def test_images_that_do_not_fit_are_refused():
    predictor = RegistrationPredictor(steady(), SMALL, ("T1", "US"))
    flat, solid = image(centred_grid((30, 26), 2.0), 1), image(centred_grid((9, 8, 7), 2.0), 2)
    with pytest.raises(InputError, match="moving: a 3D image came; this network is 2D"):
        predictor(flat, solid)
    with pytest.raises(InputError, match=r"fixed: shape \(3, 30, 26\)"):
        predictor(MetaTensor(flat.as_tensor().repeat(3, 1, 1), affine=flat.affine), flat)
    with pytest.raises(InputError, match="moving: holds values that are not finite"):
        predictor(flat, MetaTensor(flat.as_tensor() * torch.nan, affine=flat.affine))
    with pytest.raises(InputError, match="passes: 0"):
        RegistrationPredictor(steady(), SMALL, ("T1", "US"), passes=0)


def test_both_images_may_come_as_channels(tmp_path):
    network = steady()
    RegistrationPredictor(network, SMALL, ("T1", "US")).save(tmp_path / "network.pt")
    stacked = StackedPairNetwork.load(tmp_path / "network.pt")
    fixed, moving = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    assert torch.equal(stacked(torch.cat([fixed, moving], 1)), network(fixed, moving))
    with pytest.raises(InputError, match=r"images: shape \(2, 1, 16, 16\)"):
        stacked(fixed)


def test_architectures_say_what_is_built():
    assert SMALL.grid.shape == (16, 16) and SMALL.source_grid.shape == (24, 24) and SMALL.fine_grid.shape == (48, 48)
    assert float(SMALL.grid.centre.abs().max()) == float(SMALL.fine_grid.centre.abs().max()) == 0
    assert SMALL.fine_grid.spacing.tolist() == [1.5, 1.5]
    images = [torch.rand(1, 1, 16, 16) for _ in range(2)]
    assert SMALL.generator()(*images).shape == (1, 3) and SMALL.discriminator()(*images).shape == (1, 1)
    assert not SMALL.discriminator().sigmoid and SMALL.discriminator(sigmoid=True).sigmoid
    assert Architecture(channels=64, stages=2).widths == (16, 32, 64)
    names = [type(m).__name__ for m in SMALL.generator().modules()]
    assert "InstanceNorm2d" in names
    plain = dataclasses.replace(SMALL, instance_norm=False).generator()
    assert "InstanceNorm2d" not in [type(m).__name__ for m in plain.modules()]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"design": "modrn"}, "design: unknown value 'modrn'; did you mean 'modern'"),
        ({"spatial_dims": 4}, "spatial_dims: 4"),
        ({"transform": "rigd"}, "did you mean 'rigid'"),
        ({"image_size": 4}, "image_size: 4 came; at least 8"),
        ({"image_size": 18}, "image_size: 18 came; a multiple of 4"),
        ({"channels": 0}, "channels: 0"),
        ({"stages": 0}, "stages: 0"),
        ({"pool": 0}, "pool: 0"),
        ({"spacing_mm": 0.0}, r"spacing_mm: 0\.0"),
    ],
)
def test_bad_architectures_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SMALL, **setting)
