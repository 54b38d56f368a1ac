"""Chains: the contract, SimpleITK's order of composition, flattening, folding, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.spatial import Chain, LinearTransform, SpatialTransform, chain
from medmi.validation import InputError
from tests.contracts.transforms import TransformContract, itk_points, linear, smooth_field


class ChainContract(TransformContract):
    """A rotation after a field after a stretch: none of them folds into another."""

    suffix = ".h5"
    inverse_error = 0.05

    def make(self, seed: int) -> SpatialTransform:
        d = self.spatial_dims
        return chain([linear("rigid", d, seed), smooth_field(self.grid, seed), linear("affine", d, seed + 7)])

    def identity(self) -> SpatialTransform:
        here = linear("affine", self.spatial_dims)
        return Chain([here, here.inverse()])


class TestChain2D(ChainContract):
    spatial_dims = 2


class TestChain3D(ChainContract):
    spatial_dims = 3


@pytest.mark.parametrize("d", [2, 3])
def test_order_is_that_of_simpleitk_composites(d):
    parts = [linear("rigid", d, 0), linear("affine", d, 1), linear("translation", d, 2)]
    composite = sitk.CompositeTransform([p.to_sitk() for p in parts])
    x = torch.tensor([[1.0, 2.0, 3.0], [-30.0, 10.0, 5.0]], dtype=torch.float64)[:, :d]
    expected = itk_points(composite, x)
    np.testing.assert_allclose(Chain(parts).points(x), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(chain(parts).points(x), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(itk_points(Chain(parts).to_sitk(), x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_neighbours_fold_and_nested_chains_are_flattened(d):
    contract = TestChain3D() if d == 3 else TestChain2D()
    field = smooth_field(contract.grid)
    nested = chain([linear("rigid", d), Chain([linear("affine", d), field]), Chain([linear("rigid", d, 2)])])
    assert isinstance(nested, Chain)
    assert [type(part).__name__ for part in nested] == [
        "LinearTransform",
        "DisplacementFieldTransform",
        "LinearTransform",
    ]
    assert nested.folded(field) is None and field.folded(field) is None
    assert isinstance(chain([linear("rigid", d), linear("rigid", d, 1)]), LinearTransform)
    x = contract.points()
    expected = linear("rigid", d).points(linear("affine", d).points(field.points(linear("rigid", d, 2).points(x))))
    torch.testing.assert_close(nested.points(x), expected, rtol=0, atol=1e-9)


def test_a_nested_chain_can_be_written_by_simpleitk(tmp_path):
    contract = TestChain3D()
    nested = Chain([linear("rigid", 3), Chain([smooth_field(contract.grid), linear("affine", 3)])])
    path = str(tmp_path / "nested.h5")
    sitk.WriteTransform(nested.to_sitk(), path)
    x = contract.points()
    np.testing.assert_allclose(itk_points(sitk.ReadTransform(path), x), nested.points(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("homography_first", [True, False])
def test_a_homography_in_a_chain_is_exact_at_the_voxels_wherever_it_stands(homography_first):
    contract = TestChain2D()
    parts = [smooth_field(contract.grid), linear("homography", 2)]
    mixed = chain(parts if homography_first else parts[::-1])
    x = contract.grid.points().reshape(-1, 2)[::17]
    np.testing.assert_allclose(itk_points(mixed.to_sitk(contract.grid), x), mixed.points(x), rtol=0, atol=1e-9)


def test_empty_and_mixed_chains_are_refused():
    with pytest.raises(InputError, match="Chain: no transform was given"):
        Chain([])
    with pytest.raises(InputError, match=r"2D and 3D transforms cannot be chained, got \[2, 3\]"):
        Chain([linear("rigid", 2), linear("rigid", 3)])
    with pytest.raises(InputError, match=r"cannot be chained, got \[3, 2\]"):
        linear("rigid", 3).compose(linear("rigid", 2))
    with pytest.raises(InputError, match="no transform was given"):
        chain([])
