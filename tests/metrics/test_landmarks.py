"""Target registration error against NumPy by hand: padding, lists, statistics, reductions, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.utils import MetricReduction

from medmi.metrics import TargetRegistrationErrorMetric, compute_target_registration_error, pad_landmarks
from medmi.validation import InputError

NUMPY = {
    "mean": np.nanmean,
    "median": np.nanmedian,
    "p95": lambda e: np.nanpercentile(e, 95),
    "max": np.nanmax,
    "rms": lambda e: np.sqrt(np.nanmean(e**2)),
}


def ragged(d: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Predicted and reference points of three samples with 5, 2 and 4 landmarks."""
    source = torch.Generator().manual_seed(d)
    reference = [torch.randn(n, d, generator=source, dtype=torch.float64) * 40 for n in (5, 2, 4)]
    return [
        points + torch.randn(points.shape, generator=source, dtype=torch.float64) for points in reference
    ], reference


def distances(d: int) -> list[np.ndarray]:
    return [np.sqrt(((p - r).numpy() ** 2).sum(1)) for p, r in zip(*ragged(d))]


@pytest.mark.parametrize("d", [2, 3])
def test_distances_are_euclidean_and_padding_stays_nan(d):
    found = compute_target_registration_error(*map(pad_landmarks, ragged(d)))
    assert found.shape == (3, 5) and found.dtype == torch.float64
    for row, expected in zip(found.numpy(), distances(d)):
        np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-12)
        assert np.isnan(row[len(expected) :]).all()


def test_a_nan_in_either_set_drops_the_pair():
    predicted, reference = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    predicted[0, 0, 1], reference[0, 2, 0] = torch.nan, torch.nan
    assert compute_target_registration_error(predicted, reference).isnan().tolist() == [[True, False, True]]


def test_distances_far_from_the_origin_keep_their_digits():
    predicted = torch.tensor([[[1e6, 0.0, 0.0]]], dtype=torch.float64)
    assert compute_target_registration_error(predicted, predicted + 1e-6).item() == pytest.approx(
        3**0.5 * 1e-6, rel=1e-3
    )


@pytest.mark.parametrize("statistic", NUMPY)
@pytest.mark.parametrize("form", ["padded", "lists"])
def test_statistic_of_each_sample_then_mean_over_samples(statistic, form):
    metric = TargetRegistrationErrorMetric(statistic)
    predicted, reference = ragged(3)
    if form == "padded":
        values = metric(pad_landmarks(predicted), pad_landmarks(reference))
    else:
        values = metric(predicted, reference)
    expected = [NUMPY[statistic](e) for e in distances(3)]
    np.testing.assert_allclose(np.asarray(values)[:, 0], expected, rtol=1e-12)
    assert metric.aggregate().item() == pytest.approx(np.mean(expected))


def test_batches_of_unlike_counts_accumulate_and_reset():
    metric = TargetRegistrationErrorMetric()
    predicted, reference = ragged(2)
    for p, r in zip(predicted, reference):
        metric(p[None], r[None])
    assert metric.aggregate().item() == pytest.approx(np.mean([e.mean() for e in distances(2)]))
    metric.reset()
    metric(predicted[:1], reference[:1])
    assert metric.aggregate().item() == pytest.approx(distances(2)[0].mean())


def test_a_sample_without_landmarks_is_left_out():
    metric = TargetRegistrationErrorMetric(get_not_nans=True)
    points = torch.zeros(2, 3, 2)
    points[1] = torch.nan
    metric(points + 2, points)
    value, counted = metric.aggregate()
    assert value.item() == pytest.approx(8**0.5) and counted.item() == 1


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("none", [[1.0], [3.0]]), ("sum", 4.0), (MetricReduction.MEAN, 2.0), ("mean_batch", [2.0])],
)
def test_reductions_are_monais_and_aggregate_may_choose_another(reduction, expected):
    reference = torch.zeros(2, 4, 2)
    predicted = torch.tensor([1.0, 3.0])[:, None, None] * torch.tensor([1.0, 0.0]).expand(2, 4, 2)
    metric = TargetRegistrationErrorMetric(reduction=reduction)
    metric(predicted, reference)
    np.testing.assert_allclose(metric.aggregate(), expected)
    np.testing.assert_allclose(metric.aggregate("sum"), 4.0)


def test_pad_landmarks_takes_integers():
    padded = pad_landmarks([torch.ones(2, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.int64)])
    assert padded.dtype == torch.float64 and padded[1, 1].isnan().all()


@pytest.mark.parametrize("samples", [[], [torch.zeros(3)], [torch.zeros(2, 3), torch.zeros(2, 2)]])
def test_pad_landmarks_refuses_what_are_no_points(samples):
    with pytest.raises(InputError, match="pad_landmarks: samples have shapes"):
        pad_landmarks(samples)


@pytest.mark.parametrize(("one", "two"), [((1, 4, 3), (1, 5, 3)), ((4, 3), (4, 3)), ((1, 4, 4), (1, 4, 4))])
def test_shapes_that_are_no_points_are_refused(one, two):
    with pytest.raises(InputError, match=r"predicted has shape .*; \(B, L, 2 or 3\) is asked"):
        compute_target_registration_error(torch.zeros(one), torch.zeros(two))


def test_missing_reference_is_refused():
    with pytest.raises(InputError, match="y: no reference landmarks"):
        TargetRegistrationErrorMetric()(torch.zeros(1, 2, 3))


def test_unknown_options_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="statistic: unknown value 'medain'; did you mean 'median'"):
        TargetRegistrationErrorMetric("medain")
    with pytest.raises(InputError, match="reduction: unknown value 'meen'"):
        TargetRegistrationErrorMetric(reduction="meen")


def test_aggregate_before_any_batch_is_refused():
    with pytest.raises(InputError, match="TargetRegistrationErrorMetric: there is nothing to aggregate"):
        TargetRegistrationErrorMetric().aggregate()
