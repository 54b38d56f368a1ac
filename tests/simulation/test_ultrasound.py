"""Simulated ultrasound: speckle, attenuation, reflection and shadows against their laws; determinism; refusals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.simulation.phantom import HeadPhantom
from medmi.simulation.probe import Fan, Probe, fan_mask
from medmi.simulation.tissue import TissueModel, curve, relative_range
from medmi.simulation.ultrasound import reflection, simulate_ultrasound
from medmi.validation import InputError

FLAT = Grid((121, 163), [[0.9, 0.2, -40], [-0.15, 0.7, 12], [0, 0, 1]])
SOLID = Grid((49, 53, 39), [[1.6, 0.3, -0.2, -20], [-0.2, 2.1, 0.2, -60], [0.2, -0.2, 1.9, -25], [0, 0, 0, 1]])
CLEAR = Probe(attenuation_db_per_cm=0.0)
LIVER_HU, BONE_HU, AIR_HU = 60.0, 1000.0, -900.0


def uniform(grid: Grid, value: float = LIVER_HU) -> MetaTensor:
    return MetaTensor(torch.full((1, *grid.shape), value), affine=grid.affine)


def depth_of(grid: Grid, probe: Probe) -> torch.Tensor:
    fan = Fan.of(probe, grid)
    return fan.to_beam(grid.points())[..., 0] - probe.radius_mm


def rms(values: torch.Tensor) -> float:
    return float(values.double().square().mean().sqrt())


@pytest.mark.parametrize("grid", [FLAT, SOLID])
def test_uniform_tissue_has_fully_developed_speckle(grid):
    """Mean over deviation of a Rayleigh envelope: 1.91."""
    envelopes = torch.cat(
        [
            simulate_ultrasound(uniform(grid), seed, CLEAR, "ct", dynamic_range_db=None)[0][fan_mask(grid, CLEAR)]
            for seed in range(4)
        ]
    ).as_tensor()
    assert float(envelopes.mean() / envelopes.std()) == pytest.approx(1 / math.sqrt(4 / math.pi - 1), rel=0.03)


@pytest.mark.parametrize("grid", [FLAT, SOLID])
def test_echoes_fall_by_the_attenuation_in_decibels_a_centimetre(grid):
    probe = Probe(attenuation_db_per_cm=3.0)
    mask, depth = fan_mask(grid, probe), depth_of(grid, probe)
    power = sum(
        simulate_ultrasound(uniform(grid), seed, probe, "ct", None).as_tensor()[0].double().square()
        for seed in range(6)
    )
    edges = torch.linspace(float(depth[mask].min()), float(depth[mask].max()), 13, dtype=torch.float64)
    middles, decibels = [], []
    for low, high in itertools.pairwise(edges[1:-1]):
        ring = mask & (depth >= low) & (depth < high)
        middles.append(float(depth[ring].mean()) / 10)
        decibels.append(10 * math.log10(float(power[ring].mean())))
    x, y = torch.tensor(middles), torch.tensor(decibels)
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    assert slope == pytest.approx(-3.0, rel=0.06)


@pytest.mark.parametrize("plate", [BONE_HU, AIR_HU])
@pytest.mark.parametrize("grid", [FLAT, SOLID])
def test_bone_and_air_leave_a_shadow_behind_and_none_beside(grid, plate):
    mask, depth = fan_mask(grid, CLEAR), depth_of(grid, CLEAR)
    fan = Fan.of(CLEAR, grid)
    angle = fan.to_beam(grid.points())[..., 1]
    image = uniform(grid)
    image[0][(depth > 35) & (depth < 45) & (angle > 0)] = plate
    seen = simulate_ultrasound(image, 1, CLEAR, "ct", None).as_tensor()[0]
    behind = mask & (depth > 55) & (angle > 0.08)
    beside = mask & (depth > 55) & (angle < -0.08)
    before, before_beside = (mask & (depth > 10) & (depth < 28) & side for side in (angle > 0.08, angle < -0.08))
    assert rms(seen[behind]) < 0.05 * rms(seen[beside])
    assert rms(seen[before]) == pytest.approx(rms(seen[before_beside]), rel=0.08)
    front = mask & ((depth - 35).abs() < 1.5) & (angle > 0.05)
    assert rms(seen[front]) > 1.5 * rms(seen[before])


def test_an_mr_plate_that_is_dark_between_bright_tissue_leaves_a_shadow():
    depth = depth_of(FLAT, CLEAR)
    image = uniform(FLAT, 0.7) + 0.3 * torch.rand(FLAT.shape, generator=torch.Generator().manual_seed(0))
    image[0][(depth > 35) & (depth < 60)] = 0.0
    seen = simulate_ultrasound(image, 0, CLEAR, "mr", None).as_tensor()[0]
    mask = fan_mask(FLAT, CLEAR)
    assert rms(seen[mask & (depth > 66)]) < 0.2 * rms(seen[mask & (depth < 30)])


def test_a_boundary_passes_on_what_it_does_not_reflect():
    """Normal incidence on one step of impedance: the echoes from behind carry (1 - R) of the amplitude, both ways."""
    model = TissueModel(((0.0, 1.0), (1.0, 3.0)), ((0.0, 0.5), (1.0, 0.5)), ((0.0, 0.0), (1.0, 0.0)), -1.0, False)
    depth, mask = depth_of(FLAT, CLEAR), fan_mask(FLAT, CLEAR)
    image = uniform(FLAT, 0.0)
    image[0][depth > 50] = 1.0
    seen = simulate_ultrasound(image, 2, CLEAR, model, None).as_tensor()[0]
    plain = simulate_ultrasound(uniform(FLAT, 0.0), 2, CLEAR, model, None).as_tensor()[0]
    behind = mask & (depth > 56)
    assert rms(seen[behind]) / rms(plain[behind]) == pytest.approx(1 - 0.25, rel=0.06)
    assert torch.allclose(seen[mask & (depth < 44)], plain[mask & (depth < 44)], atol=1e-6)


def test_reflection_is_fresnels_at_a_step_and_none_in_even_tissue():
    impedance = torch.cat((torch.full((30, 4), 1.5), torch.full((30, 4), 1.8)))
    found = reflection(impedance, 1)
    assert float(found.max()) == pytest.approx((0.3 / 3.3) ** 2, rel=1e-4)
    assert torch.equal(found.amax(1).nonzero()[:, 0], torch.tensor([29, 30]))


def test_there_is_gel_before_the_body():
    depth, mask = depth_of(FLAT, CLEAR), fan_mask(FLAT, CLEAR)
    image = uniform(FLAT)
    image[0][depth < 30] = -1000.0
    seen = simulate_ultrasound(image, 0, CLEAR, "ct", None).as_tensor()[0]
    assert rms(seen[mask & (depth < 25)]) == 0.0
    whole = simulate_ultrasound(uniform(FLAT), 0, CLEAR, "ct", None).as_tensor()[0]
    assert rms(seen[mask & (depth > 40)]) == pytest.approx(rms(whole[mask & (depth > 40)]), rel=0.02)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_image_is_compressed_in_the_fan_and_empty_outside(dims):
    grid = FLAT if dims == 2 else SOLID
    head = HeadPhantom(spatial_dims=dims).image(grid, "t1")
    seen = simulate_ultrasound(head)
    mask = fan_mask(grid)
    assert seen.shape == head.shape and seen.dtype == torch.float32 and Grid.of(seen).same_as(grid)
    values = seen.as_tensor()[0]
    assert float(values[~mask].abs().max()) == 0 and float(values.min()) == 0 and float(values.max()) == 1
    envelope = simulate_ultrasound(head, dynamic_range_db=None).as_tensor()[0][mask]
    top = torch.quantile(envelope, 0.995)
    expected = (1 + 20 * torch.log10(envelope / top) / 50).clamp(0, 1)
    assert float((values[mask] - expected).abs().max()) < 2e-3


def test_speckle_cells_are_fixed_to_the_beams_and_wider_with_a_wider_cell():
    fine, coarse = (
        simulate_ultrasound(uniform(FLAT), 0, Probe(attenuation_db_per_cm=0.0, cell_mm=c), "ct", None).as_tensor()[0]
        for c in (1.5, 6.0)
    )
    inside = fan_mask(FLAT, CLEAR)
    both = inside[:, 1:] & inside[:, :-1]
    change = [rms((i[:, 1:] - i[:, :-1])[both]) / rms(i[both.nonzero(as_tuple=True)]) for i in (fine, coarse)]
    assert change[1] < 0.5 * change[0]


def test_same_seed_same_bits_at_any_number_of_threads():
    head = HeadPhantom(spatial_dims=2).image(FLAT, "t1")
    before = torch.get_num_threads()
    seen = []
    try:
        for threads, seed in ((1, 0), (2, 0), (2, 1)):
            torch.set_num_threads(threads)
            seen.append(simulate_ultrasound(head, seed).as_tensor())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_a_view_without_any_body_is_dark():
    assert float(simulate_ultrasound(uniform(FLAT, -1000.0), tissue="ct").abs().max()) == 0


def test_curves_and_ranges():
    knots = ((-2.0, 1.0), (0.0, 1.0), (4.0, 3.0))
    assert curve(torch.tensor([-9.0, 0.0, 2.0, 9.0]), knots).tolist() == [1.0, 1.0, 2.0, 3.0]
    low, high = relative_range(torch.linspace(0, 1, 10001).reshape(73, 137))
    assert low == pytest.approx(0.005, abs=1e-3) and high == pytest.approx(0.995, abs=1e-3)
    assert relative_range(torch.full((3, 4), 7.0)) == (7.0, 8.0)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"image has shape \(2, 121, 163\)"):
        simulate_ultrasound(MetaTensor(torch.zeros(2, *FLAT.shape), affine=FLAT.affine))
    with pytest.raises(InputError, match="not finite"):
        simulate_ultrasound(uniform(FLAT, math.nan))
    with pytest.raises(InputError, match="tissue: unknown value 'mri'; did you mean 'mr'"):
        simulate_ultrasound(uniform(FLAT), tissue="mri")
    with pytest.raises(InputError, match="dynamic_range_db is 0"):
        simulate_ultrasound(uniform(FLAT), dynamic_range_db=0.0)
    with pytest.raises(InputError, match="direction has 2 components; the image is 3D"):
        simulate_ultrasound(uniform(SOLID), probe=Probe(direction=(1.0, 0.0)))
