"""The number of threads comes back, whatever happens inside."""

from __future__ import annotations

import pytest
import torch

from medmi.threads import one_thread


def test_the_number_of_threads_comes_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
