"""Who works: the processor's threads, which share out the compiled loops without Python's lock, or another device."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

from medmi.native import loops

CPU = torch.device("cpu")
# Kinds of devices that the compiled loops run on.
COMPILED = frozenset({"cpu"})

Item = TypeVar("Item")
Result = TypeVar("Result")


def shared_out(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """The results of all items, in their order; one after the other where there is but one thread or item."""
    shares = min(threads, len(items))
    if shares <= 1:
        return [work(item) for item in items]

    def done(share: int) -> list[Result]:
        return [work(item) for item in items[share::shares]]

    # The calling thread takes a share itself: to wake another one takes as long as a small evaluation.
    others = [_pool(threads - 1).submit(done, share) for share in range(1, shares)]
    rows = [done(0), *(other.result() for other in others)]
    return [rows[k % shares][k // shares] for k in range(len(items))]


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept from call to call: starting threads takes as long as a small evaluation."""
    return ThreadPoolExecutor(threads)


def _forget_threads() -> None:
    """A forked child has none of its parent's threads."""
    _pool.cache_clear()
    loops.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
