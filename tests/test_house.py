"""Rules every file of the project keeps, checked on its syntax tree."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LINES = 300


def sources(*folders: str, endings: tuple[str, ...] = (".py",)) -> list[pathlib.Path]:
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in endings)


def named(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute, else the empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{named(node.value)}.{node.attr}"
    return ""


def option(call: ast.Call, name: str) -> object:
    """The literal value of a keyword of a call, None where it is absent."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def calls(check: Callable[[ast.Call, str], bool]) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Call) and check(node, named(node.func))


def brings_pickle(node: ast.AST) -> bool:
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in modules
    return isinstance(node, ast.Import) and any(alias.name.split(".")[0] in modules for alias in node.names)


RULES: dict[str, Callable[[ast.AST], bool]] = {
    "a gradient check whose result nobody reads": calls(lambda call, name: option(call, "raise_exception") is False),
    "pickle, which runs code from files": brings_pickle,
    "torch.load without weights_only=True": calls(
        lambda call, name: name == "torch.load" and option(call, "weights_only") is not True
    ),
    "numpy.load with allow_pickle": calls(lambda call, name: option(call, "allow_pickle") is True),
    "yaml that may build objects": calls(
        lambda call, name: name in {f"yaml.{f}" for f in ("load", "load_all", "full_load", "unsafe_load")}
    ),
    "code from text": calls(lambda call, name: name in {"eval", "exec", "os.system"} or option(call, "shell") is True),
    "index_put_ that accumulates in no fixed order": calls(
        lambda call, name: name.rpartition(".")[2] in {"index_put", "index_put_"} and option(call, "accumulate") is True
    ),
    "an except that hides everything": lambda node: isinstance(node, ast.ExceptHandler) and node.type is None,
}
PACKAGE_RULES: dict[str, Callable[[ast.AST], bool]] = {
    "assert, which vanishes under -O": lambda node: isinstance(node, ast.Assert),
    "the global random state": calls(
        lambda call, name: name in {"torch.manual_seed", "np.random.seed", "numpy.random.seed", "random.seed"}
    ),
}


def faults(text: str, rules: dict[str, Callable[[ast.AST], bool]]) -> list[str]:
    """Which rules a source breaks, and where."""
    return [
        f"line {node.lineno}: {rule}"
        for node in ast.walk(ast.parse(text))
        for rule, broken in rules.items()
        if broken(node)
    ]


@pytest.mark.parametrize("folder", ["medmi", "tests", "examples", "plugins"])
def test_no_file_is_longer_than_300_lines(folder):
    paths = sources(folder, endings=(".py", ".c", ".h"))
    sizes = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in paths}
    assert {path: size for path, size in sizes.items() if size > LINES} == {}


@pytest.mark.parametrize("folder", ["medmi", "tests", "examples", "plugins"])
def test_no_file_holds_what_is_forbidden(folder):
    rules = RULES | PACKAGE_RULES if folder == "medmi" else RULES
    found = {str(p.relative_to(ROOT)): faults(p.read_text(encoding="utf-8"), rules) for p in sources(folder)}
    assert {path: broken for path, broken in found.items() if broken} == {}


def test_every_module_says_what_it_holds():
    assert [str(p.relative_to(ROOT)) for p in sources("medmi") if not ast.get_docstring(ast.parse(p.read_text()))] == []


@pytest.mark.parametrize(
    "text",
    [
        "gradcheck(f, x, raise_exception=False)",
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(stream, Loader)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "x.index_put_((i,), v, accumulate=True)",
        "try:\n    f()\nexcept:\n    pass",
    ],
)
def test_each_rule_finds_its_fault(text):
    assert len(faults(text, RULES)) == 1


@pytest.mark.parametrize("text", ["assert x > 0", "torch.manual_seed(0)", "np.random.seed(0)"])
def test_each_rule_of_the_package_finds_its_fault(text):
    assert len(faults(text, PACKAGE_RULES)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "assert gradcheck(f, x)",
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(stream)",
        "model.eval()",
        "x.index_put_((i,), v)",
        "try:\n    f()\nexcept ValueError:\n    pass",
    ],
)
def test_what_is_allowed_passes(text):
    assert faults(text, RULES) == []
