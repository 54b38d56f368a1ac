"""A trained network as the solver's start: object or file, what it finds is where the solver begins, refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from monai.data import MetaTensor

from medmi import InputError, register
from medmi.networks.registration_architecture import Architecture
from medmi.networks.registration_predictor import RegistrationPredictor
from medmi.registration.inputs import as_start
from medmi.registration.problem import pose_problem
from medmi.spatial.linear import linear_matrix
from tests.oracles.scene import error, pair, truth

SMALL = Architecture(2, 16, 3.0, design="published", channels=4)


def knowing(spatial_dims: int) -> RegistrationPredictor:
    """A network that always answers with a turn by 0.06 rad and a shift of 3 mm."""
    architecture = dataclasses.replace(SMALL, spatial_dims=spatial_dims)
    network = architecture.generator()
    with torch.no_grad():
        network.head.bias[0], network.head.bias[-1] = 3.0 / 12.0, 0.06 / 0.15
    return RegistrationPredictor(network, architecture, ("a", "b"), passes=1)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_solver_starts_where_the_network_says(spatial_dims, tmp_path):
    fixed, moving = pair(truth("rigid", spatial_dims))
    problem, network = pose_problem(fixed, moving), knowing(spatial_dims)
    network.save(tmp_path / "network.pt")
    parameters = torch.zeros(3 * spatial_dims - 3, dtype=torch.float64)
    parameters[0], parameters[-1] = 3.0, 0.06
    expected = linear_matrix(parameters, "rigid", spatial_dims, problem.fixed.grid.centre)
    for initial in (network, tmp_path / "network.pt", str(tmp_path / "network.pt")):
        torch.testing.assert_close(as_start(initial, problem).matrix, expected, atol=1e-6, rtol=0)


def test_registration_refines_what_the_network_found(tmp_path):
    matrix = truth("rigid", 2)
    result = register(*pair(matrix), initial=knowing(2))
    assert result.status == "converged" and error(result.transform.matrix, matrix) < 0.05


def test_networks_that_do_not_fit_are_refused(tmp_path):
    fixed, moving = pair(truth("rigid", 2))
    with pytest.raises(InputError, match="fixed: a 2D image came; this network is 3D"):
        register(fixed, moving, initial=knowing(3))
    colour = [MetaTensor(i.as_tensor().repeat(3, 1, 1), affine=i.affine) for i in (fixed, moving)]
    with pytest.raises(InputError, match=r"fixed: shape \(3, "):
        register(*colour, initial=knowing(2))
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        register(fixed, moving, initial=tmp_path / "none.pt")
