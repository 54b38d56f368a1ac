"""A rolling buffer of aligned pairs: each is made once, drawn some times, and forgotten.

Words: the *window* is the numbers of the pairs that may be drawn at a moment; it moves on by one pair for every
``reuse`` draws. Pair number n is a function of the seed and n alone, so that a buffer needs no state to be resumed.
An *alike* pair holds its fixed image twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from medmi.engines.ranks import generator_of
from medmi.simulation.makers import PairMaker
from medmi.validation import InputError

__all__ = ["RollingPairs"]


class RollingPairs:
    """Aligned pairs by number, made when they are first asked for.

    Args:
        maker: makes a pair from a generator.
        size: pairs in the window; more vary more within a batch, and are made anew when a training is resumed.
        reuse: how often each pair is drawn on average.
        seed: of all pairs.
        alike: so many pairs are alike, before all others: networks learn to compare places before they learn to
            compare modalities, which is much sooner done in this order. They give way one by one as the window moves.

    Raises:
        InputError: a count under 1, for ``alike`` under 0.

    >>> pairs = RollingPairs(lambda generator: {"fixed": generator.initial_seed()}, size=3, reuse=2)
    >>> pairs.window(0), pairs.window(4)
    (range(0, 3), range(2, 5))
    """

    def __init__(self, maker: PairMaker, size: int = 256, reuse: int = 4, seed: int = 0, alike: int = 0) -> None:
        for name, count, least in (("size", size, 1), ("reuse", reuse, 1), ("alike", alike, 0)):
            if count < least:
                raise InputError(f"{name}: {count!r} came; at least {least} is asked")
        self.maker, self.size, self.reuse, self.seed, self.alike = maker, size, reuse, seed, alike
        self._made: dict[int, Mapping[str, Tensor]] = {}

    def window(self, draws: int) -> range:
        """What may be drawn after so many draws; older pairs are forgotten when the next is made."""
        first = draws // self.reuse
        return range(first, first + self.size)

    def pair(self, number: int, window: range) -> Mapping[str, Tensor]:
        """Pair number ``number``, which lies in the window."""
        if number not in self._made:
            self._made = {n: pair for n, pair in self._made.items() if n >= window.start}
            pair = self.maker(generator_of(self.seed, "pair", number))
            self._made[number] = {**pair, "moving": pair["fixed"]} if number < self.alike else pair
        return self._made[number]
