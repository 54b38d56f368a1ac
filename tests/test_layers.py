"""Imports inside medmi go one way, and heavy libraries are imported where they are used."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "medmi"
LAYERS = [
    "native", "loaded", "threads", "validation", "frames", "image", "grid", "spatial", "io", "simulation", "networks", "information",
    "losses", "metrics", "registration", "transforms", "engines", "apps",
]  # fmt: skip
HEAVY = {"matplotlib", "ignite", "sklearn", "nitransforms", "dask", "distributed"}
# The package's own front door and `python -m medmi`: they may import all, nothing may import them.
DOORS = {"medmi", "medmi.__main__"}

Tree = dict[str, ast.Module]


def parsed(root: pathlib.Path) -> Tree:
    """Every module below ``root`` by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imported(name: str, node: ast.AST, tree: Tree) -> list[str]:
    """Dotted names that one import statement of module ``name`` brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = name.split(".") if any(other.startswith(name + ".") for other in tree) else name.split(".")[:-1]
        base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in tree else base for alias in node.names]


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: everything outside functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import_time(child)


def layer(name: str) -> int:
    """Place of a module of the package in the list; the doors come last."""
    return len(LAYERS) if name in DOORS else LAYERS.index(name.split(".")[1])


def upward(tree: Tree) -> list[str]:
    """Imports of something that stands below the importing module."""
    faults = []
    for name, module in tree.items():
        for node in ast.walk(module):
            for other in imported(name, node, tree):
                if other.split(".")[0] == "medmi" and layer(other) > layer(name):
                    faults.append(f"{name} imports {other}")
    return faults


def heavy(tree: Tree) -> list[str]:
    """Heavy libraries imported with a module that more than apps import."""
    users: dict[str, set[str]] = {name: set() for name in tree}
    brings: dict[str, set[str]] = {name: set() for name in tree}
    for name, module in tree.items():
        for node in at_import_time(module):
            for other in imported(name, node, tree):
                users.get(other, set()).add(name)
                brings[name] |= {other.split(".")[0]} & HEAVY
    only_apps = {name for name in tree if name.startswith("medmi.apps")}
    only_apps |= {name for name in tree if users[name] and users[name] <= only_apps}
    return [
        f"{name} imports {sorted(libraries)}"
        for name, libraries in brings.items()
        if libraries and name not in only_apps
    ]


@pytest.fixture(scope="module")
def package() -> Tree:
    return parsed(ROOT)


def test_every_module_has_its_place(package):
    assert {name.split(".")[1] for name in package if name not in DOORS} <= set(LAYERS)


def test_nothing_imports_what_stands_below_it(package):
    assert upward(package) == []


def test_heavy_libraries_are_imported_where_used(package):
    assert heavy(package) == []


def sample(**modules: str) -> Tree:
    """Modules of a made-up package; ``__`` stands for a dot."""
    return {name.replace("__", "."): ast.parse(text) for name, text in modules.items()}


@pytest.mark.parametrize(
    "text",
    [
        "import medmi.apps.cli",
        "from medmi.apps import cli",
        "from medmi import register",
        "from ..apps import cli",
        "def f():\n    from medmi.apps.cli import main",
        "if True:\n    from medmi.apps.cli import main",
    ],
)
def test_upward_import_is_found(text):
    tree = sample(medmi="", medmi__apps="", medmi__apps__cli="", medmi__spatial="", medmi__spatial__linear=text)
    assert len(upward(tree)) == 1


@pytest.mark.parametrize(
    "text", ["from medmi.grid import Grid", "from . import other", "import torch", "from .other import x"]
)
def test_downward_import_is_accepted(text):
    tree = sample(medmi="", medmi__grid="", medmi__spatial="", medmi__spatial__other="", medmi__spatial__linear=text)
    assert upward(tree) == []


@pytest.mark.parametrize(
    ("text", "user", "faults"),
    [
        ("import ignite", "import medmi.engines.trainer", 1),
        ("from matplotlib import pyplot", "", 1),
        ("def draw():\n    import matplotlib", "import medmi.engines.trainer", 0),
    ],
)
def test_heavy_import_is_found(text, user, faults):
    tree = sample(medmi="", medmi__engines="", medmi__engines__trainer=text, medmi__registration=user)
    assert len(heavy(tree)) == faults


def test_heavy_import_of_a_module_that_only_apps_import_is_accepted():
    tree = sample(
        medmi="",
        medmi__apps="",
        medmi__apps__cli="from medmi.engines import trainer",
        medmi__engines__trainer="import ignite",
    )
    assert heavy(tree) == []
