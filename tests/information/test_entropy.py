"""Entropies and their kin against closed forms and SciPy, in batches, with empty entries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import mutual_info_score

from medmi.information import (
    entropy,
    mutual_information,
    normalized_mutual_information,
    total_variation_information,
)
from medmi.validation import InputError

MEASURES = [mutual_information, normalized_mutual_information, total_variation_information]
COUNTS = np.random.default_rng(0).integers(0, 9, (4, 6, 7)) * (np.random.default_rng(1).random((4, 6, 7)) < 0.7)
TABLES = torch.tensor(COUNTS / COUNTS.sum((1, 2), keepdims=True))


def test_entropy_is_scipys():
    p = TABLES.flatten(1)
    np.testing.assert_allclose(entropy(p), stats.entropy(p.numpy(), axis=1), rtol=1e-12)


def test_mutual_information_is_scikit_learns():
    wanted = [mutual_info_score(None, None, contingency=counts) for counts in COUNTS]
    np.testing.assert_allclose(mutual_information(TABLES), wanted, rtol=1e-10)


@pytest.mark.parametrize("bins", [2, 5, 64])
def test_identity(bins):
    p = torch.eye(bins) / bins
    assert float(mutual_information(p)) == pytest.approx(math.log(bins))
    assert float(normalized_mutual_information(p)) == pytest.approx(2)
    assert float(total_variation_information(p)) == pytest.approx(1 - 1 / bins)


def test_independence():
    p = torch.tensor([0.1, 0.0, 0.9])[:, None] * torch.tensor([0.5, 0.2, 0.3, 0.0])
    assert float(mutual_information(p)) == pytest.approx(0, abs=1e-7)
    assert float(normalized_mutual_information(p)) == pytest.approx(1)
    assert float(total_variation_information(p)) == pytest.approx(0, abs=1e-7)


def test_binary_symmetric_channel():
    e = 0.11
    p = torch.tensor([[1 - e, e], [e, 1 - e]], dtype=torch.float64) / 2
    h = -e * math.log(e) - (1 - e) * math.log(1 - e)
    assert float(mutual_information(p)) == pytest.approx(math.log(2) - h)
    assert float(normalized_mutual_information(p)) == pytest.approx(2 * math.log(2) / (math.log(2) + h))
    assert float(total_variation_information(p)) == pytest.approx(0.5 - e)


@pytest.mark.parametrize("measure", MEASURES)
def test_relabelling_symmetry_and_batches(measure):
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(measure(TABLES[:, order]), measure(TABLES))
    torch.testing.assert_close(measure(TABLES.transpose(-1, -2)), measure(TABLES))
    nested = measure(TABLES.reshape(2, 2, 6, 7))
    torch.testing.assert_close(nested.flatten(), torch.stack([measure(table) for table in TABLES]))


@pytest.mark.parametrize("measure", MEASURES)
def test_gradients(measure):
    p = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(measure, (p / p.sum((-1, -2), keepdim=True)).requires_grad_())


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("table", [[[1.0, 0.0], [0.0, 0.0]], [[0.5, 0.5], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.5]]])
def test_empty_entries_give_finite_values_and_gradients(measure, table):
    p = torch.tensor(table, requires_grad=True)
    value = measure(p)
    value.backward()
    assert bool(torch.isfinite(value)) and bool(torch.isfinite(p.grad).all())


def test_gradient_of_mutual_information_is_the_log_ratio():
    p = TABLES[0].clamp_min(1e-3)
    p = (p / p.sum()).requires_grad_()
    (grad,) = torch.autograd.grad(mutual_information(p), p)
    ratio = (p / (p.sum(1, keepdim=True) * p.sum(0))).log().detach()
    torch.testing.assert_close(grad - grad.mean(), ratio - ratio.mean())


def test_a_step_into_an_empty_entry_is_discouraged_where_it_blurs():
    p = (torch.eye(3, dtype=torch.float64) / 3).requires_grad_()
    (grad,) = torch.autograd.grad(mutual_information(p), p)
    assert float(grad[0, 1]) < float(grad[0, 0]) - 10


def test_half_precision_tables():
    assert float(mutual_information(torch.eye(4, dtype=torch.float16) / 4)) == pytest.approx(math.log(4), rel=1e-3)


def test_refuses_what_is_no_table():
    with pytest.raises(InputError, match="entropy: p has no axis"):
        entropy(torch.tensor(1.0))
    for measure in MEASURES:
        with pytest.raises(InputError, match=rf"{measure.__name__}: p has shape \(3,\)"):
            measure(torch.ones(3) / 3)
