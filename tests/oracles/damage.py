"""Files with bytes changed, cut or put in, and a reader let loose on them: a result or an InputError of one line.

Bounded: a case may take 20 seconds and all of them together 1 GiB more than there was, as Linux counts it.
"""

from __future__ import annotations

import pathlib
import random
import re
import time
from collections.abc import Callable, Sequence

from medmi.validation import InputError

SECONDS, GIB = 20.0, 2**30
LARGEST_INTEGERS = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"9999", b"\x7f\xff\xff\xff")
# What a text file may come to hold: separators, quotes, numbers that are none, other encodings, YAML's tags and aliases.
TEXTS = (
    *(b",", b";", b'"', b"'", b"\n", b"\r", b"\0", b"\t", b"#", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\xa9", b"nan", b"-inf"),
    *(b"1e999", b"9" * 400, b"[" * 3000, b"{" * 3000, b'"' * 401, b"x" * 140000, b"../" * 30, b"-", b": ", b"- ", b"? "),
    *(b"&a [*a]", b"*a", b"!!python/object/apply:os.abort []", b"!!binary x", b"2001-99-99", b"0x", b"1_0", b".inf", b"<<: *a"),
)  # fmt: skip


def mutated(whole: bytes, chance: random.Random, put_in: Sequence[bytes] = ()) -> bytes:
    """Some bytes changed, the end cut off, bytes put in, or a size made absurd; the header more often than the rest."""
    raw = bytearray(whole)
    head = min(len(raw), chance.choice([64, 400, 2000, len(raw)]))
    kind, place = chance.random(), chance.randrange(head)
    if put_in and kind < 0.6:
        for _ in range(chance.choice([1, 1, 2, 4])):
            place = chance.randrange(head)
            raw[place : place + chance.choice([0, 0, 1, 5])] = chance.choice(put_in)
    elif kind < 0.6:
        for _ in range(chance.choice([1, 1, 2, 4, 16])):
            raw[chance.randrange(head)] = chance.choice([0, 1, 255, 127, 128, chance.randrange(256)])
    elif kind < 0.75:
        del raw[chance.randrange(len(raw)) :]
    elif kind < 0.9:
        raw[place : place + chance.choice([1, 4, 8])] = chance.randbytes(chance.choice([0, 1, 4, 8, 100]))
    else:
        raw[place : place + 4] = chance.choice(LARGEST_INTEGERS)
    return bytes(raw)


def attack(
    files: list[pathlib.Path], read: Callable[[pathlib.Path], object], cases: int, put_in: Sequence[bytes] = ()
) -> int:
    """Read that many damaged files; how many were refused."""
    chance = random.Random(0)
    sound = [(file.suffixes, file.read_bytes()) for file in files]
    refused, before = 0, resident("VmRSS")
    forget_peak()
    for k in range(cases):
        suffixes, whole = sound[k % len(sound)]
        damaged = files[0].parent / f"damaged{''.join(suffixes)}"
        damaged.write_bytes(mutated(whole, chance, put_in))
        start = time.monotonic()
        try:
            read(damaged)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
        assert time.monotonic() - start < SECONDS
    assert resident("VmHWM") - before < GIB
    return refused


def forget_peak() -> None:
    """Let the peak of this process's memory start from now, where the system can."""
    switch = pathlib.Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


def resident(what: str) -> int:
    """Bytes of this process's memory now (VmRSS) or at its peak (VmHWM); 0 where the system does not tell."""
    status = pathlib.Path("/proc/self/status")
    found = re.search(rf"{what}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return 1024 * int(found[1]) if found else 0
