"""Ultrasound simulated from MR or CT: a B-mode image on the same grid, so that the truth of its pose is exact.

This is a simulation: it looks like ultrasound and is hard to register like ultrasound, it proves nothing about a real
probe. Along each beam of a fan (2D) or pyramid (3D), in the spirit of Wein et al. 2008 (Medical Image Analysis
12:577, section 3):

- *reflection* at a boundary, ((Z2 - Z1) / (Z2 + Z1))^2 of the sound's intensity, where Z is the impedance a little
before and after along
  the beam, so that boundaries across the beam shine and those along it do not;
- *transmission* of what was not reflected, attenuation, and absorption in bone and air, which leaves shadows;
- *scattering* with fully developed speckle, its cells fixed to the beams and so wider with depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.simulation.noise import FWHM_PER_SIGMA, unit_noise
from medmi.simulation.probe import Fan, Probe
from medmi.simulation.tissue import TISSUE_MODELS, TissueModel, curve, relative_range
from medmi.threads import one_thread
from medmi.validation import InputError, choose

BOUNDARY_MM = 3.0
SPECULAR_GAIN = 8.0
BEAM_SAMPLING = 0.8
GEL_IMPEDANCE = 1.0
MOST_REFLECTED = 0.999
BRIGHTEST = 0.995


@dataclass(frozen=True)
class Lattice:
    """Samples of a fan: how many along each beam coordinate and how far apart in mm, at mid depth for the angles."""

    fan: Fan
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def beam_coordinates(self) -> torch.Tensor:
        """``(*shape, d)`` float32."""
        axes = [torch.linspace(float(a), float(b), n) for a, b, n in zip(self.fan.low, self.fan.high, self.shape)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def unit(self, beam: torch.Tensor) -> torch.Tensor:
        """Beam coordinates as ``grid_sample`` takes them."""
        low, high = self.fan.low.to(beam), self.fan.high.to(beam)
        return (2 * (beam - low) / (high - low) - 1).flip(-1)


@one_thread()
def simulate_ultrasound(
    image: MetaTensor,
    seed: int = 0,
    probe: Probe | None = None,
    tissue: str | TissueModel = "mr",
    dynamic_range_db: float | None = 50.0,
) -> MetaTensor:
    """A B-mode image of what an MR or CT image shows, on the image's own grid.

    Args:
        image: ``(1, *spatial)``, 2D or 3D.
        seed: of the speckle.
        probe: where the beams run; None takes ``Probe()``. Angles and lengths are in world mm, whatever the voxels are.
        tissue: ``mr`` (by relative intensity), ``ct`` (Hounsfield units) or a model of one's own.
        dynamic_range_db: of the logarithmic compression to 0..1, 1 at the 99.5 percentile of the fan; None gives the
            uncompressed envelope.

    Returns:
        ``(1, *spatial)`` float32 with the image's affine, 0 outside the fan (:func:`medmi.simulation.probe.fan_mask`).

    Raises:
        InputError: another number of channels, values that are not finite, an unknown tissue, a dynamic range not
        above 0, or a
            probe of another dimension.
    """
    grid = Grid.of(image)
    voxels = checked(image, dynamic_range_db)
    model = choose(tissue, TISSUE_MODELS, "tissue") if isinstance(tissue, str) else tissue
    probe = probe or Probe()
    lattice = lattice_of(Fan.of(probe, grid), float(grid.spacing.prod()) ** (1 / grid.spatial_dims) * BEAM_SAMPLING)
    echoes = beam_echoes(values_on(lattice, voxels, grid, model), lattice, probe, model, seed)
    return MetaTensor(scan_convert(echoes, lattice, grid, dynamic_range_db)[None], affine=grid.affine.clone())


def checked(image: MetaTensor, dynamic_range_db: float | None) -> torch.Tensor:
    """The single channel ``(*spatial)`` as float32 on the CPU, or an error."""
    if image.shape[0] != 1:
        raise InputError(f"simulate_ultrasound: image has shape {tuple(image.shape)}; (1, *spatial) is asked")
    voxels = image.as_tensor().detach().cpu().float()[0]
    if not bool(torch.isfinite(voxels).all()):
        raise InputError("simulate_ultrasound: image holds values that are not finite; replace them first")
    if dynamic_range_db is not None and not (math.isfinite(dynamic_range_db) and dynamic_range_db > 0):
        raise InputError(
            f"simulate_ultrasound: dynamic_range_db is {dynamic_range_db}; a number above 0 or None is asked"
        )
    return voxels


def lattice_of(fan: Fan, spacing: float) -> Lattice:
    """The lattice of about that spacing in mm."""
    shape = fan.samples(spacing)
    middle = float(fan.low[0] + fan.high[0]) / 2
    steps = [float(h - a) / (n - 1) for a, h, n in zip(fan.low, fan.high, shape)]
    return Lattice(fan, shape, (steps[0], *(middle * s for s in steps[1:])))


def values_on(lattice: Lattice, voxels: torch.Tensor, grid: Grid, model: TissueModel) -> torch.Tensor:
    """The image's values at the lattice, ``(*lattice.shape)``, in the model's scale; the edge values go on outside."""
    low, high = relative_range(voxels) if model.relative else (0.0, 1.0)
    points = lattice.fan.to_world(lattice.beam_coordinates())
    unit = grid.index_to_unit(grid.world_to_index(points.double()))
    return (sample(voxels[None], unit, "border")[0] - low) / (high - low)


def beam_echoes(values: torch.Tensor, lattice: Lattice, probe: Probe, model: TissueModel, seed: int) -> torch.Tensor:
    """Complex echo amplitude at the lattice as two channels, ``(2, *lattice.shape)``."""
    step = lattice.spacing[0]
    coupled = (values > model.contact).float().cummax(0).values
    reach = max(1, round(BOUNDARY_MM / 2 / step))
    impedance = torch.lerp(torch.full_like(values, GEL_IMPEDANCE), curve(values, model.impedance), coupled)
    reflected = reflection(impedance, reach)
    loss_db = (probe.attenuation_db_per_cm + curve(values, model.absorption)) * coupled * (step / 10)
    # What lies before a sample dims it; half of the sample's own step counts as before it.
    # A step is seen from 2 reach samples; what each of them takes away multiplies up to the whole.
    passed_on = torch.log1p(-reflected.clamp_max(MOST_REFLECTED)) / (2 * reach)
    dimming = (loss_db * (math.log(10) / 20) - passed_on).cumsum(0)
    dimming -= loss_db * (math.log(10) / 40)
    arriving = torch.exp(-dimming)
    generator = torch.Generator().manual_seed(seed)
    sigmas = [max(probe.cell_mm / FWHM_PER_SIGMA / s, 0.6) for s in lattice.spacing]
    scattered = torch.stack([unit_noise(lattice.shape, sigmas, generator) for _ in range(2)])
    scattered *= curve(values, model.scattering) * coupled
    scattered[0] += SPECULAR_GAIN * reflected.sqrt()
    return scattered * arriving


def reflection(impedance: torch.Tensor, reach: int) -> torch.Tensor:
    """Share of the intensity sent back at each sample, by the impedances ``reach`` samples before and after it."""
    last = impedance.shape[0] - 1
    index = torch.arange(last + 1)
    before, after = impedance[(index - reach).clamp_min(0)], impedance[(index + reach).clamp_max(last)]
    return ((after - before) / (after + before)).square()


def scan_convert(echoes: torch.Tensor, lattice: Lattice, grid: Grid, dynamic_range_db: float | None) -> torch.Tensor:
    """Echoes of the lattice as an image ``(*spatial)`` on the grid, compressed if asked."""
    beam = lattice.fan.to_beam(grid.points().float())
    inside = lattice.fan.contains(beam)
    real, imaginary = sample(echoes, lattice.unit(beam), "zeros")
    envelope = torch.hypot(real, imaginary) * inside
    if dynamic_range_db is None:
        return envelope
    seen = envelope[inside]
    if seen.numel() == 0 or float(seen.max()) == 0:
        return envelope
    top = seen.double().kthvalue(max(1, round(BRIGHTEST * seen.numel()))).values.clamp_min(1e-30)
    decibels = 20 * torch.log10((envelope / float(top)).clamp_min(1e-10))
    return (1 + decibels / dynamic_range_db).clamp(0, 1) * inside


def sample(channels: torch.Tensor, unit: torch.Tensor, padding: str) -> torch.Tensor:
    """Linear interpolation of ``(C, *spatial)`` at unit coordinates ``(*out, d)``, ``(C, *out)``."""
    unit = unit.float()[None]
    return torch.nn.functional.grid_sample(channels[None], unit, padding_mode=padding, align_corners=True)[0]
