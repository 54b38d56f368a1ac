"""What the shared checks accept, and the one line they refuse with."""

from __future__ import annotations

import pytest
import torch

from medmi.validation import InputError, check_pair, choose, suggestion

TABLE = {"rigid": 6, "similarity": 7, "affine": 12}


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_choose_gives_the_row():
    assert choose("affine", TABLE, "transform") == 12


@pytest.mark.parametrize(("name", "near"), [("afine", "affine"), ("Rigid", "rigid"), ("similar", "similarity")])
def test_choose_suggests_the_nearest_name(name, near):
    with pytest.raises(
        InputError, match=rf"^transform: unknown value '{name}'; did you mean '{near}'\? One of: rigid, "
    ):
        choose(name, TABLE, "transform")


@pytest.mark.parametrize("name", ["xyz", "", 7, None, [3]])
def test_choose_refuses_what_is_like_nothing_in_one_line(name):
    with pytest.raises(InputError, match="One of: rigid, similarity, affine") as caught:
        choose(name, TABLE, "transform")
    assert "\n" not in str(caught.value) and "did you mean" not in str(caught.value)


def test_suggestion_is_a_full_stop_where_nothing_is_near():
    assert suggestion("zzz", TABLE) == "."
    assert suggestion("rigd", iter(TABLE)) == "; did you mean 'rigid'?"


@pytest.mark.parametrize("shape", [(2, 1, 5), (2, 3, 4, 5), (1, 1, 4, 5, 6)])
def test_check_pair_accepts_equal_shapes_and_masks_of_one_or_all_channels(shape):
    x = torch.zeros(shape)
    check_pair("Loss", x, x)
    for channels in (1, shape[1]):
        mask = torch.zeros(shape[0], channels, *shape[2:], dtype=torch.bool)
        mask[..., 0] = True
        check_pair("Loss", x, x, mask)


def test_check_pair_refuses_what_has_no_space():
    with pytest.raises(InputError, match=r"^Loss: pred has shape \(2, 3\); \(B, C, \*spatial\) is asked"):
        check_pair("Loss", torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("other", [(2, 1, 4, 6), (1, 1, 4, 5), (2, 3, 4, 5), (2, 1, 4)])
def test_check_pair_refuses_unlike_shapes(other):
    with pytest.raises(InputError, match=r"Loss: pred has shape \(2, 1, 4, 5\) but target "):
        check_pair("Loss", torch.zeros(2, 1, 4, 5), torch.zeros(other))


@pytest.mark.parametrize("shape", [(), (2,), (2, 4, 5), (2, 2, 4, 5), (1, 1, 4, 5), (2, 1, 4, 4)])
def test_check_pair_refuses_masks_of_another_shape(shape):
    x = torch.zeros(2, 3, 4, 5)
    with pytest.raises(InputError, match=r"Loss: mask has shape .* as in pred's \(2, 3, 4, 5\)"):
        check_pair("Loss", x, x, torch.ones(shape))


def test_check_pair_refuses_a_mask_that_is_empty_for_one_sample():
    x = torch.zeros(2, 1, 4, 5)
    mask = torch.ones(2, 1, 4, 5)
    mask[1] = 0
    with pytest.raises(InputError, match="Loss: mask is empty for at least one sample"):
        check_pair("Loss", x, x, mask)
