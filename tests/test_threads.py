"""The number of threads comes back, whatever happens inside."""

from __future__ import annotations

import pytest
import torch

from medmi.grid import Grid
from medmi.simulation.phantom import HeadPhantom
from medmi.threads import one_thread


def test_the_number_of_threads_comes_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_an_image_has_the_same_bits_at_any_number_of_threads():
    grid = Grid((40, 50, 60), torch.diag(torch.tensor([4.0, 4.0, 3.5, 1.0], dtype=torch.float64)))
    before = torch.get_num_threads()
    seen = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            seen.append(HeadPhantom().image(grid, "ultrasound").as_tensor())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*seen)
