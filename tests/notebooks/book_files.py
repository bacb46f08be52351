"""The notebooks of the book, read once, and what the tests look for in them."""

import ast
import re
from functools import cache
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CLAIM = {  # every kind of check, and the argument that states what the book claims
    "identity": "rhs",
    "inequality": "larger",
    "definition": "formula",
    "numeric": "formula",
    "monte_carlo": "expected",
    "discrete": "rhs",
}


@cache
def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[tuple[int, NotebookNode]]:
    """The code cells that are not empty, with their places in the notebook."""
    return [(i, cell) for i, cell in enumerate(read(path).cells) if cell.cell_type == "code" and cell.source.strip()]


def markdown_cells(path: Path) -> list[tuple[int, NotebookNode]]:
    return [(i, cell) for i, cell in enumerate(read(path).cells) if cell.cell_type == "markdown"]


def parsed(source: str) -> ast.Module:
    """A cell's code; lines such as %matplotlib become the calls that they stand for."""
    return ast.parse(TransformerManager().transform_cell(source))


def is_check(node: ast.AST) -> bool:
    """Whether a node is a call such as check.identity(...)."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "check"
        and node.func.attr in CLAIM
    )


def check_calls(source: str) -> list[ast.Call]:
    return [node for node in ast.walk(parsed(source)) if isinstance(node, ast.Call) and is_check(node)]


def tags(path: Path) -> list[tuple[int, str]]:
    """The numbered equations in their order: (cell, number)."""
    return [(i, tag) for i, cell in markdown_cells(path) for tag in re.findall(r"\\tag\{([^}]*)\}", cell.source)]
