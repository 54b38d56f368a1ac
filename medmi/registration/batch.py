"""Many pairs in one call: the threads are shared out over the pairs, which is the better use of them, as each pair needs no other."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import nn

from medmi.image import Image
from medmi.loaded import loaded
from medmi.registration.inputs import ImageLike, as_device, as_term, check_options
from medmi.registration.neural import NeuralTerm
from medmi.registration.presets import as_preset
from medmi.registration.register import register, reporting
from medmi.registration.result import RegistrationResult
from medmi.spatial import SpatialTransform
from medmi.threads import one_thread
from medmi.validation import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk

PairLike: TypeAlias = "Sequence[ImageLike | None]"


def register_batch(
    pairs: Sequence[PairLike],
    transform: str | Sequence[str] = "rigid",
    similarity: str | NeuralTerm | nn.Module | None = None,
    initial: str | pathlib.Path | SpatialTransform | sitk.Transform = "auto",
    preset: str | pathlib.Path | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool | Callable[[float], None] = False,
    threads: int = 1,
) -> list[RegistrationResult]:
    """Align many pairs, each bit for bit as :func:`medmi.register` does alone.

    Args:
        pairs: of each ``(fixed, moving)``, or ``(fixed, moving, fixed_mask, moving_mask)`` where either mask may be None; anything
            that :func:`medmi.register` takes. Paths are read when their turn comes, so that not all images are in memory at once.
        transform, similarity, initial, preset, device, seed: of every pair, as :func:`medmi.register` takes them. A loss object is
            called from several threads at once.
        progress: True shows a bar on a terminal; a function is called with the share of the pairs that are done.
        threads: how many pairs are worked on at a time; the results do not depend on it.

    Returns:
        The results in the order of the pairs. Not converging is no exception: read each ``status``.

    Raises:
        InputError: an option that cannot be used, before anything runs; or a pair that cannot, which is named as ``pairs[k]``. No
            further pair is then begun.
    """
    check_options([transform] if isinstance(transform, str) else list(transform), threads, seed)
    as_term(as_preset(preset).similarity if similarity is None else similarity, as_device(device))
    rows = [as_row(pair, k) for k, pair in enumerate(pairs)]

    def work(number: int) -> RegistrationResult:
        fixed, moving, fixed_mask, moving_mask = rows[number]
        try:
            return register(
                fixed, moving, transform, similarity, fixed_mask, moving_mask, initial, preset, device, seed
            )
        except InputError as error:
            raise InputError(f"pairs[{number}]: {error}") from error

    # One thread of torch for each pair: several pairs that each take all cores wait for one another.
    with reporting(progress) as report, one_thread(), ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, number) for number in range(len(rows))]
        for done, future in enumerate(as_completed(futures), start=1):
            if future.exception() is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            if report is not None:
                report(done / len(rows))
        return [future.result() for future in futures if not future.cancelled()]


def as_row(pair: PairLike, number: int) -> tuple:
    """A pair as fixed, moving and both masks, each of which may be None."""
    image = loaded("SimpleITK", "Image")
    if isinstance(pair, (str, pathlib.Path, torch.Tensor, Image, image)) or len(pair) not in (2, 4):
        length = "" if isinstance(pair, (pathlib.Path, image)) else f" of length {len(pair)}"
        raise InputError(
            f"pairs[{number}]: got {type(pair).__name__}{length}; (fixed, moving) or (fixed, moving, fixed_mask, moving_mask) is asked"
        )
    return (*pair, *[None] * (4 - len(pair)))
