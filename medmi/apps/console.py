"""What every command says and how: the progress bar, a result as JSON or one line, errors as one line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from medmi.validation import InputError


def use_threads(threads: int | None) -> int:
    """Set torch's and SimpleITK's thread count once and return it; libraries that each take all cores slow one another down."""
    import SimpleITK as sitk
    import torch

    if threads is not None and threads < 1:
        raise InputError(f"--threads: got {threads}; at least 1 is asked")
    count = threads or min(4, os.cpu_count() or 1)
    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    return count


@contextmanager
def bar(what: str) -> Iterator[Callable[[float], None] | None]:
    """A progress bar on stderr where that is a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def show(summary: dict[str, Any], json_wanted: bool, line: str) -> None:
    """Print the summary as JSON or its one line."""
    from medmi.apps.output import as_json

    print(as_json(summary) if json_wanted else line)


def stopped(message: str, code: int) -> int:
    """Say why a command stopped, called while its error is handled; the exit code."""
    if "--debug" in sys.argv:
        traceback.print_exc()
    complain(message)
    return code


def complain(message: str) -> None:
    """One line on stderr."""
    print("medmi: " + " ".join(message.split()), file=sys.stderr)
