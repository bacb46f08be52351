"""Imports run one way: process and models stand on the ground, training stands on both, book on top."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "diffnotes").rglob("*.py"))
LAYERS = {
    "process": {"process"},
    "models": {"models"},
    "training": {"process", "models", "training"},
    "book": {"process", "models", "training", "book", ""},
}
SLOW = ("matplotlib", "ipywidgets", "sympy", "jupyterlab", "IPython", "sklearn", "scipy", "accelerate", "pooch")


def imports(path: Path) -> Iterator[str]:
    """The full names of all that a module imports, wherever in it the import stands."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [parent, node.module]))
            yield from (f"{module}.{name.name}" for name in node.names)


def layers_used(path: Path) -> set[str]:
    """The parts of diffnotes that a module imports from; "" for names of the package itself."""
    parts = [name.split(".") for name in imports(path) if name.split(".")[0] == "diffnotes"]
    return {part[1] if len(part) > 1 and (ROOT / "diffnotes" / part[1]).is_dir() else "" for part in parts}


def test_every_folder_of_the_package_has_its_place():
    assert {path.name for path in (ROOT / "diffnotes").iterdir() if (path / "__init__.py").exists()} == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path):
    layer = path.relative_to(ROOT / "diffnotes").parts[0]
    allowed = LAYERS.get(layer, {"process", "models", "training", ""})  # diffnotes/__init__.py and __main__.py
    assert layers_used(path) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_one_imports_the_command_line(path: Path):
    assert [name for name in imports(path) if "__main__" in name] == []


@pytest.mark.parametrize("oracle", ["symbols.py", "chain.py"])
def test_the_oracles_know_nothing_of_the_code_that_they_check(oracle: str):
    named = {name.split(".")[0] for name in imports(ROOT / "diffnotes" / "book" / "proof" / oracle)}
    assert named <= {"sympy", "re", "collections", "dataclasses", "fractions", "numpy", "random", "typing"}


def test_import_diffnotes_stays_quick():
    probe = "import sys; import diffnotes; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert sorted(set(SLOW) & set(loaded.split())) == []
