"""Signals that arrive in a callback, where Python forgets what their handlers raise: the process unwinds all the same."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A weak reference's callback is where the signal arrives; what follows would take a minute.
WORK = """
import os, signal, sys, time, weakref
from medmi.apps.interrupts import end_when_told, hear_interrupts

class Thing:
    pass

def callback(_):
    os.kill(os.getpid(), signal.{name})
    sum(range(10))

{listen}()
thing = Thing()
reference = weakref.ref(thing, callback)
try:
    del thing
    {wait}
finally:
    print("unwound")
"""
WAITS = {"computing": "while True: sum(range(10))", "waiting": "import threading; threading.Event().wait(60)"}


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(("name", "listen"), [("SIGINT", "hear_interrupts"), ("SIGTERM", "end_when_told")])
def test_a_signal_in_a_callback_is_not_lost(name, listen, wait):
    script = WORK.format(name=name, listen=listen, wait=WAITS[wait])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "unwound\n" and "Exception ignored" not in done.stderr
    assert done.returncode == {"SIGINT": -signal.SIGINT, "SIGTERM": 1}[name]


def test_other_exceptions_of_callbacks_are_shown():
    script = WORK.format(name="SIGTERM", listen="end_when_told", wait="pass").replace(
        "os.kill", "raise OSError('seen') #"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "unwound\n")
    assert "Exception ignored" in done.stderr and "OSError: seen" in done.stderr
