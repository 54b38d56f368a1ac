"""Work that threads share out: all of it, in order, whatever their number."""

from __future__ import annotations

import threading

import pytest

from medmi.registration.workers import shared_out


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items(count, threads):
    assert shared_out(lambda item: item * item, range(count), threads) == [k * k for k in range(count)]


def test_the_caller_and_another_thread_work_at_once():
    meeting = threading.Barrier(2, timeout=10)

    def work(item: int) -> int:
        meeting.wait()
        return threading.get_ident()

    first, second = shared_out(work, range(2), 2)
    assert first == threading.get_ident() != second


def test_an_error_in_any_share_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        shared_out(lambda item: 1 // (1 - item), range(2), 2)
