"""Peak memory of one registration of two NIfTI files, by a process that imports the one system and nothing else that it need not.

As a script: ``peer_memory.py SYSTEM FIXED MOVING FAMILY THREADS`` prints MiB resident after the system's import and at the peak.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from peer_systems import SYSTEMS


def resident(field: str) -> float:
    """MiB of this process as the system counts it: ``VmRSS`` now, ``VmHWM`` at the highest; NaN where it does not tell."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(name: str, fixed: str, moving: str, family: str, threads: int) -> tuple[float, float]:
    """MiB after the import and at the peak of this process."""
    system = SYSTEMS[name]
    importlib.import_module(system.module)
    before = resident("VmRSS")
    system.register(system.read(fixed), system.read(moving), family, threads)
    return before, resident("VmHWM")


def memory_of(name: str, fixed: pathlib.Path, moving: pathlib.Path, family: str, threads: int) -> tuple[float, float]:
    """:func:`measure` in a process of its own."""
    command = [sys.executable, __file__, name, str(fixed), str(moving), family, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, peak = json.loads(done.stdout.splitlines()[-1])
    return before, peak


def memory_of_torch() -> float:
    """Peak MiB of a process that imports torch and does nothing else."""
    code = "import torch, pathlib; print(pathlib.Path('/proc/self/status').read_text())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return next((float(s.split()[1]) / 1024 for s in done.stdout.splitlines() if s.startswith("VmHWM")), float("nan"))


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:5], int(sys.argv[5]))))
