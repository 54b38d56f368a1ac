"""Jobs in processes of their own and on a dask scheduler: the same results, a death that loses one, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest

from medmi.apps.batch import Crew, run_batch
from medmi.apps.registration import Order
from medmi.apps.workers import DIED, outcome_of, run_here, run_in_processes
from medmi.validation import InputError
from tests.apps.test_batch import matrix, pairs, summary  # noqa: F401
from tests.oracles.command_line import files, run

SLOW = 30.0


def work(job: tuple[str, float]) -> dict[str, object]:
    """A job of the tests: say one's own process, die, or take long."""
    kind, seconds = job
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return {"process": os.getpid()}


def lost(job: tuple[str, float], why: str) -> dict[str, object]:
    return {"lost": why}


@pytest.mark.slow
def test_processes_share_the_jobs():
    jobs = [("say", 0.2 + k / 100) for k in range(4)]
    done = dict(run_in_processes(work, jobs, 2, lost))
    assert sorted(done) == jobs
    assert os.getpid() not in {one["process"] for one in done.values()}
    assert {one["process"] for _, one in run_here(work, jobs[:1])} == {os.getpid()}


@pytest.mark.slow
def test_a_process_that_dies_loses_its_own_job_only():
    jobs = [("say", 0.01), ("die", 0.0), ("say", 0.3), ("say", 0.4)]
    done = dict(run_in_processes(work, jobs, 2, lost))
    assert sorted(done) == sorted(jobs)
    assert [job for job, outcome in done.items() if outcome == {"lost": DIED}] == [("die", 0.0)]


@pytest.mark.slow
def test_jobs_end_with_the_caller():
    ended = run_in_processes(work, [("say", 0.0), ("say", SLOW), ("say", SLOW + 1)], 2, lost)
    process = next(ended)[1]["process"]
    start = time.monotonic()
    ended.close()
    assert time.monotonic() - start < SLOW / 2
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


class Gone:
    """A future whose scheduler went away."""

    def result(self) -> None:
        raise OSError("closed")


def test_what_a_scheduler_lost_is_a_failure():
    assert outcome_of(Gone(), ("say", 0.0), lost) == {"lost": "the scheduler lost it (OSError)"}


@pytest.mark.slow
def test_two_workers_give_the_bits_of_one(pairs, tmp_path):  # noqa: F811
    for name, workers in (("one", 1), ("two", 2)):
        done = run("batch", pairs, "-o", tmp_path / name, "--preset", "fast", "--workers", workers)
        assert (done.code, done.err) == (0, "")
    for name in ("first", "second"):
        assert np.array_equal(matrix(tmp_path / "one" / name), matrix(tmp_path / "two" / name))
        one, two = (nibabel.load(tmp_path / run / name / "moved.nii.gz").get_fdata() for run in ("one", "two"))
        assert np.array_equal(one, two)


def test_no_scheduler_answers(pairs, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("distributed", reason="dask's distributed is not installed")
    monkeypatch.setattr("medmi.apps.workers.SECONDS_TO_CONNECT", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        assert run("batch", pairs, "-o", tmp_path / "out", "--scheduler", address).is_refusal("--scheduler", address)


def test_without_dask_it_says_what_to_install(pairs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'medmi\[batch\]'"):
        run_batch(pairs, tmp_path / "out", Order(), Crew(scheduler="tcp://127.0.0.1:9"), True, None)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that the cluster leaves to the collector
def test_on_a_scheduler(pairs, tmp_path):  # noqa: F811
    distributed = pytest.importorskip("distributed", reason="dask's distributed is not installed")
    cluster = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**cluster, protocol="tcp") as here:
        asked = ["--preset", "fast", "--scheduler", here.scheduler_address]
        done = run("batch", pairs, "-o", tmp_path / "there", *asked)
    assert (done.code, done.err) == (0, ""), done
    assert [row["id"] for row in summary(tmp_path / "there")] == ["first", "second"]
    assert run("batch", pairs, "-o", tmp_path / "here", "--preset", "fast").code == 0
    for name in ("first", "second"):
        assert np.array_equal(matrix(tmp_path / "here" / name), matrix(tmp_path / "there" / name))


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_leaves_nothing_half_written_and_the_same_command_goes_on(pairs, tmp_path, workers):  # noqa: F811
    rng, slow = np.random.default_rng(0), [f"slow{k}" for k in range(4)]
    for name in ("a.nii", "b.nii"):
        large = nibabel.Nifti1Image(rng.random((180, 180, 180), np.float32), np.eye(4))
        nibabel.save(large, pairs.parent / name)
    pairs.write_text(pairs.read_text() + "".join(f"{name},a.nii,b.nii\n" for name in slow))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "medmi", "batch", pairs, "-o", out, "--workers", workers, "--preset", "fast"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: (out / "summary.csv").exists() and len(summary(out)) >= 1)
        until(lambda: any(name.startswith(".medmi-") for name in files(out)))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr == "medmi: interrupted; finished pairs are kept, and the same command goes on from there\n"
    # Of several workers any may be first.
    kept = [row["id"] for row in summary(out)]
    assert 1 <= len(kept) < 2 + len(slow)
    assert files(out) == [*sorted(kept), "summary.csv"]
    lines = pairs.read_text().splitlines()
    pairs.write_text("\n".join(line for line in lines if line.split(",")[0] not in set(slow) - set(kept)) + "\n")
    again = run("batch", pairs, "-o", out, "--preset", "fast")
    assert again.code == 0 and f"{len(kept)} finished before" in again.out
    assert {row["id"] for row in summary(out)} == {*kept, "first", "second"}


def until(holds) -> None:
    """Wait for something to hold, a minute at most."""
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
