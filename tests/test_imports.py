"""Imports run one way, as docs/architecture.md says: process and models on the ground, training on both, book on top."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "diffnotes").rglob("*.py"))
TABLE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = {  # what each room may import, as the page says
    room: set(re.findall(r"`([\w/]+)`", allowed))
    for room, allowed in re.findall(r"^\| `([\w/]+)` \|[^|]*\|([^|]*)\|$", TABLE, re.MULTILINE)
}
NAMES = "names of the package itself"
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


def room_of(name: str) -> str:
    """The room of a dotted name of diffnotes: process, models, training, or one of book's; "book" for its own names."""
    parts = name.split(".")[1:]
    if parts[:1] == ["book"] and len(parts) > 1 and (ROOT / "diffnotes" / "book" / parts[1]).is_dir():
        return f"book/{parts[1]}"
    return parts[0] if parts and (ROOT / "diffnotes" / parts[0]).is_dir() else NAMES


def rooms_used(path: Path) -> set[str]:
    """The rooms that a module imports from, its own apart."""
    own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return {room_of(name) for name in imports(path) if name.split(".")[0] == "diffnotes"} - {own}


def test_the_page_names_every_room():
    package, book = ROOT / "diffnotes", ROOT / "diffnotes" / "book"
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").exists()} - {"book"}
    folders |= {f"book/{path.name}" for path in book.iterdir() if (path / "__init__.py").exists()}
    assert set(ROOMS) == folders


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path):
    room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if (
        room == NAMES
    ):  # diffnotes/__init__.py; and __main__.py, the command line, which also opens the book and prints it
        book = {"book/lab", "book/press"} if path.name == "__main__.py" else set()
        assert rooms_used(path) <= {"process", "models", "training"} | book
    elif room == "book":  # book/__init__.py loads its names when they are asked for
        assert rooms_used(path) == set()
    else:
        allowed = ROOMS[room] | ({NAMES} if room.startswith("book/") else set())
        assert rooms_used(path) <= allowed


def test_the_page_allows_no_import_that_nobody_needs():
    used = {room: set() for room in ROOMS}
    for path in MODULES:
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if room in used:
            used[room] |= rooms_used(path) - {NAMES}
    assert used == ROOMS


def test_the_rooms_form_no_circle():
    left = dict(ROOMS)
    while left:
        ground = [room for room, allowed in left.items() if not allowed & left.keys()]
        assert ground, f"in a circle: {sorted(left)}"
        for room in ground:
            del left[room]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_one_imports_the_command_line(path: Path):
    assert [name for name in imports(path) if "__main__" in name] == []


@pytest.mark.parametrize("oracle", ["symbols.py", "chain.py"])
def test_the_oracles_use_nothing_of_the_code_that_they_check(oracle: str):
    named = {name.split(".")[0] for name in imports(ROOT / "diffnotes" / "book" / "proof" / oracle)}
    assert named <= {"sympy", "re", "collections", "dataclasses", "fractions", "numpy", "random", "typing"}


def test_import_diffnotes_stays_quick():
    probe = "import sys; import diffnotes; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert sorted(set(SLOW) & set(loaded.split())) == []
