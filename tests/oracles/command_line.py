"""The medmi command, run in this process or in one of its own: exit code, stdout, stderr."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from medmi.apps.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout as JSON; anything else on it is an error."""
        return json.loads(self.out)

    def is_refusal(self, *words: str) -> bool:
        """Exit 2, nothing on stdout, one line on stderr that begins with ``medmi:``, holds the words and no traceback."""
        line = self.err.removesuffix("\n")
        plain = line.startswith("medmi: ") and "\n" not in line and "Traceback" not in line
        return self.code == 2 and self.out == "" and plain and all(word in line for word in words)


def run(*arguments: object) -> Outcome:
    """``medmi ARGUMENTS`` in this process."""
    threads = torch.get_num_threads()
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["medmi", *map(str, arguments)]),
        mock.patch.object(sys, "unraisablehook", sys.unraisablehook),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
        finally:
            torch.set_num_threads(threads)
    return Outcome(int(str(code or 0)), out.getvalue(), err.getvalue())


def run_alone(*arguments: object) -> Outcome:
    """``python -m medmi ARGUMENTS`` in a process of its own."""
    command = [sys.executable, "-m", "medmi", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def files(folder: pathlib.Path) -> list[str]:
    """Names in a folder, hidden ones too; none where it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
