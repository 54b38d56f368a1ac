"""The README does what it says: every ``medmi`` line of its bash blocks and every python block runs, in its order."""

from __future__ import annotations

import pathlib
import re
import runpy
import shlex

import pytest

from tests.contracts.training import write_config, write_heads
from tests.oracles.command_line import run
from tests.oracles.scene import truth, write_pair

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = "python -m pip install -c constraints.txt"


def blocks(language: str) -> list[str]:
    """The fenced code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Lines of the bash blocks, continued ones joined, comments left out."""
    joined = "".join(blocks("bash")).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """Stand-ins for the reader's own files, in the current folder."""
    write_pair(tmp_path, truth("rigid", 3))
    for name, shift in (("fixed.csv", 0), ("moving.csv", 1)):
        (tmp_path / name).write_text(f"x,y,z\n1,2,{3 + shift}\n4,5,{6 + shift}\n")
    write_config(tmp_path, write_heads(tmp_path))
    (tmp_path / "pairs.csv").write_text("id,fixed,moving\nhead,fixed.nii.gz,moving.nii.gz\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_one_of_medmi_or_the_set_up():
    assert [line for line in commands() if not line.startswith(("medmi ", SET_UP))] == []


def test_the_two_set_up_commands_are_those_that_continuous_integration_runs():
    assert sum(line.startswith(SET_UP) for line in commands()) == 2
    assert SET_UP in (ROOT / ".ci" / "run").read_text()


def test_the_commands_run_one_after_another(folder):
    for line in commands():
        if line.startswith("medmi "):
            arguments = shlex.split(line, comments=True)[1:]
            outcome = run(*arguments)
            assert (outcome.code, outcome.err) == (0, ""), line


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_python_blocks_run(folder, number):
    script = folder / "block.py"
    script.write_text(blocks("python")[number], encoding="utf-8")
    runpy.run_path(str(script))


def test_there_is_something_to_run():
    assert len(blocks("python")) >= 1 and sum(line.startswith("medmi ") for line in commands()) >= 3


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []
