"""Ctrl-C and the order to end: a process unwinds, so that temporary folders are removed, and does so every time.

Python raises the exception of a signal's handler wherever it stands. Where that is a callback, as of an object that is
collected, it prints the exception and forgets it; here the signal is sent again instead, when the callback is over.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SECONDS_TO_LEAVE_A_CALLBACK = 0.01


def hear_interrupts() -> None:
    """In the process that answers Ctrl-C."""
    send_again(KeyboardInterrupt, signal.SIGINT)


def end_when_told() -> None:
    """In a process that is terminated: let it clear up behind itself."""
    signal.signal(signal.SIGTERM, leave)
    send_again(SystemExit, signal.SIGTERM)


def leave(*_: object) -> NoReturn:
    """Unwind, so that temporary folders are removed."""
    raise SystemExit(1)


def send_again(kind: type[BaseException], number: int) -> None:
    """From now on a signal is sent again where Python lost the exception of its handler; all else is shown as ever."""
    shown = sys.unraisablehook

    def heard(lost: UnraisableHookArgs) -> None:
        if lost.exc_type is kind:
            threading.Timer(SECONDS_TO_LEAVE_A_CALLBACK, send, [number]).start()
        else:
            shown(lost)

    sys.unraisablehook = heard


def send(number: int) -> None:
    """To the main thread, which Python lets answer, so that it wakes where it waits; Windows cannot name a thread."""
    thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and thread is not None:
        signal.pthread_kill(thread, number)
    else:
        signal.raise_signal(number)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """New processes inherit that Ctrl-C is their parent's to answer, before they have run a line of their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
