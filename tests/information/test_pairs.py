"""Pairings never hold a true pair, voxel pairs respect the mask."""

from __future__ import annotations

import pytest
import torch

from medmi.information.pairs import all_pairs, derangements, score_pairs, voxel_pairs
from medmi.information.readout import held_out_scores
from medmi.networks import ImagePairCritic
from medmi.validation import InputError


@pytest.mark.parametrize(("size", "count"), [(2, 1), (5, 4), (101, 20)])
def test_derangements_are_permutations_without_true_or_repeated_pairs(size: int, count: int) -> None:
    pairing = derangements(size, count, torch.Generator().manual_seed(0))
    assert pairing.shape == (count, size)
    assert (pairing.sort(1).values == torch.arange(size)).all()
    assert (pairing != torch.arange(size)).all()
    assert all(len(set(column.tolist())) == count for column in pairing.T)


def test_derangements_reach_every_other_partner_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    partners = torch.stack([derangements(5, 1, generator)[0] for _ in range(4000)])[:, 0]
    counts = partners.bincount(minlength=5)
    assert counts[0] == 0 and (counts[1:] - 1000).abs().max() < 120


def test_all_pairs_are_every_pair_but_the_true_ones() -> None:
    pairing = all_pairs(6)
    pairs = {(i, int(j)) for row in pairing for i, j in enumerate(row)}
    assert pairs == {(i, j) for i in range(6) for j in range(6) if i != j}


@pytest.mark.parametrize(("size", "count"), [(1, 1), (4, 4), (4, 0)])
def test_refuses_more_derangements_than_there_are(size: int, count: int) -> None:
    with pytest.raises(InputError, match=f"{count} derangements asked of {size} pairs"):
        derangements(size, count, torch.Generator())
    with pytest.raises(InputError, match="derangements asked of 1 pairs"):
        all_pairs(1)


def test_scores_are_the_critics_of_each_pair() -> None:
    x, y = torch.arange(5.0)[:, None], 10 * torch.arange(5.0)[:, None]
    pairing = all_pairs(5)
    joint, marginal = score_pairs(lambda a, b: a + b, x, y, pairing)
    torch.testing.assert_close(joint, (x + y)[:, 0])
    torch.testing.assert_close(marginal, x[:, 0] + y[:, 0][pairing])


def test_an_embedding_critic_scores_as_the_same_critic_called_on_each_pair() -> None:
    critic = ImagePairCritic(1, channels=(3,), hidden=4)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(5, 1, 9, generator=generator), torch.rand(5, 1, 8, generator=generator)
    pairing = derangements(5, 3, generator)
    for turned in (False, True):
        apart = score_pairs(critic, x, y, pairing, turned)
        plain = score_pairs(lambda a, b: critic(a, b), x, y, pairing, turned)
        torch.testing.assert_close(apart, plain)
        expected = critic(x[pairing[1]], y) if turned else critic(x, y[pairing[1]])
        torch.testing.assert_close(apart[1][1], expected)
    held_out = held_out_scores(critic, x, y, pairing)
    torch.testing.assert_close(held_out[1].float(), score_pairs(critic, x, y, pairing)[1])


def test_voxel_pairs_take_each_voxel_of_the_mask_once() -> None:
    pred, target = torch.arange(2 * 3 * 4.0).reshape(2, 3, 4), -torch.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    mask = torch.zeros(1, 3, 4)
    mask[0, 1, 1:3] = 1
    x, y = voxel_pairs(pred, target, mask, None, torch.Generator())
    assert x.tolist() == [[5.0, 17.0], [6.0, 18.0]] and (y == -x).all()


def test_voxel_pairs_are_drawn_inside_where_every_channel_counts() -> None:
    pred = torch.arange(2 * 30.0).reshape(2, 30)
    mask = torch.zeros(2, 30)
    mask[0, :20], mask[1, 10:] = 1, 1
    x, y = voxel_pairs(pred, 2 * pred, mask, 500, torch.Generator().manual_seed(0))
    assert x.shape == (500, 2) and set(x[:, 0].tolist()) == set(map(float, range(10, 20)))
    assert (y == 2 * x).all()
