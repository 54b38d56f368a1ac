"""Where the jobs of a batch run: in this process, in processes of their own, or on a dask scheduler.

Processes come from the standard library: a batch on one machine needs no scheduler, and the pool tells when a process
dies, as one that runs out of memory does. They are spawned, since a forked copy of torch's threads can hang. dask is
for many machines. Every way yields ``(job, outcome)`` as jobs end, in any order; when the caller stops early or is
interrupted, no job goes on in a process that was started here.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from medmi.apps.interrupts import end_when_told, interrupts_ignored
from medmi.validation import InputError

Job = TypeVar("Job")
Outcome = dict[str, Any]
Work = Callable[[Job], Outcome]
Lost = Callable[[Job, str], Outcome]
DIED = "the process that worked on it died, perhaps for want of memory"
SECONDS_TO_CONNECT = 10
SECONDS_TO_END = 20


def run_here(work: Work[Job], jobs: Sequence[Job]) -> Generator[tuple[Job, Outcome]]:
    """One after another in this process."""
    for job in jobs:
        yield job, work(job)


def run_in_processes(
    work: Work[Job], jobs: Sequence[Job], workers: int, lost: Lost[Job]
) -> Generator[tuple[Job, Outcome]]:
    """In a number of processes. Where one dies, what had not ended is tried again, one job at a time.

    Args:
        work: a function that a new process can import.
        jobs: plain values.
        workers: how many processes.
        lost: the outcome of a job whose process died, from the job and why.
    """
    left = list(jobs)
    with pool(min(workers, len(jobs))) as executor:
        with interrupts_ignored():
            futures = {executor.submit(unless_told_to_end, work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                outcome = future.result()
                left.remove(futures[future])
                yield futures[future], outcome
        except BrokenProcessPool:
            pass
    while left:
        yield from one_by_one(work, left, lost)


def one_by_one(work: Work[Job], left: list[Job], lost: Lost[Job]) -> Generator[tuple[Job, Outcome]]:
    """Take jobs off the list, in one process, until it is empty or the process has died of one."""
    with pool(1) as executor:
        while left:
            job = left.pop(0)
            with interrupts_ignored():
                future = executor.submit(unless_told_to_end, work, job)
            try:
                yield job, future.result()
            except BrokenProcessPool:
                yield job, lost(job, DIED)
                return


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes; where the block is left early, they are ended and have ended when it is left."""
    before = multiprocessing.active_children()
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=end_when_told)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        children = [child for child in multiprocessing.active_children() if child not in before]
        for child in children:
            child.terminate()
        for child in children:
            child.join(SECONDS_TO_END)
            child.kill()
        raise
    executor.shutdown()


def unless_told_to_end(work: Work[Job], job: Job) -> Outcome:
    """The job's outcome; the pool would take the unwinding for one and give its process the next job."""
    try:
        return work(job)
    except SystemExit:
        os._exit(1)


def run_on_scheduler(
    work: Work[Job], jobs: Sequence[Job], address: str, lost: Lost[Job]
) -> Generator[tuple[Job, Outcome]]:
    """On the workers of a dask scheduler, which must see the same files under the same paths.

    dask exchanges Python objects with the scheduler: name only one that you trust.

    Raises:
        InputError: dask is not installed, or no scheduler answers at the address.
    """
    try:
        from distributed import Client
        from distributed import as_completed as as_ended
    except ImportError as error:
        raise InputError("--scheduler: needs dask; pip install 'medmi[batch]', or leave it out") from error
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"--scheduler: nothing answers at {address}; start one with `dask scheduler`") from error
    with client:
        futures = {client.submit(work, job, pure=False): job for job in jobs}
        try:
            for future in as_ended(list(futures), loop=client.loop):
                yield futures[future], outcome_of(future, futures[future], lost)
        finally:
            client.cancel(list(futures))


def outcome_of(future: Any, job: Job, lost: Lost[Job]) -> Outcome:
    """What a worker of the scheduler gave; ``work`` itself raises nothing, so an exception is the scheduler's."""
    try:
        return future.result()
    except Exception as error:
        return lost(job, f"the scheduler lost it ({type(error).__name__})")
