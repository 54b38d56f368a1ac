"""What the processes of a distributed run share: who they are, means of gradients and numbers, seeds.

One process is a run of one rank; nothing here needs ``torch.distributed`` then.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, distributed, nn

__all__ = ["average_gradients", "averaged", "generator_of", "rank_and_size"]


def rank_and_size() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def average_gradients(network: nn.Module) -> None:
    """Replace every gradient by its mean over the ranks; a parameter without one counts as zero."""
    size = rank_and_size()[1]
    if size == 1:
        return
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)
        parameter.grad /= size


def averaged(value: Tensor) -> Tensor:
    """A detached scalar's mean over the ranks."""
    value, size = value.detach().clone(), rank_and_size()[1]
    if size > 1:
        distributed.all_reduce(value)
    return value / size


def generator_of(*parts: int | str) -> torch.Generator:
    """A generator on the CPU whose seed depends on all parts, so that every draw of a run can be made again alone.

    >>> a, b, c = (torch.rand(1, generator=generator_of(*parts)) for parts in ((0, 1), (0, 1), (1, 0)))
    >>> bool(a == b), bool(a == c)
    (True, False)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
