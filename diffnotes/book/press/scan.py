"""Reads the notebooks of the book: which equations there are, which check stands under each, which slips are refuted.

The index of equations (chapter 92) is made from what is found here, and the tests hold the book to it.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

import diffnotes
from diffnotes.book.proof.chapters import TAG

PACKAGE = Path(diffnotes.__file__).parent
WITHIN = PACKAGE / "book"  # where the wheel has notebooks/ and docs/
BOOK = WITHIN if (WITHIN / "notebooks").is_dir() else PACKAGE.parent  # else the repository
FOLDER = BOOK / "notebooks"
CLAIM = {  # every kind of check, and the argument that states what the book claims
    "identity": "rhs",
    "inequality": "larger",
    "definition": "formula",
    "numeric": "formula",
    "monte_carlo": "expected",
    "discrete": "rhs",
}
LINE = re.compile(rf">\(({TAG})\)</a> · (.*?)</div>", re.DOTALL)  # what check.py shows when a check holds


@dataclass
class Equation:
    """A numbered equation: where it stands, and how it is checked."""

    tag: str
    notebook: str
    section: str
    latex: str
    kinds: list[str] = field(default_factory=list)  # of its checks, in order: "identity", "definition", ...
    shown: list[str] = field(default_factory=list)  # the lines under it, as stored
    code: list[str] = field(default_factory=list)  # the functions of the package that compute or cite it
    slips: list[str] = field(default_factory=list)  # of the clinic, that are held against it


def notebooks() -> list[Path]:
    """The notebooks of the book in reading order."""
    if not FOLDER.is_dir():
        raise FileNotFoundError(f"the notebooks should lie in the package or beside it, and there is no {FOLDER}")
    return sorted(FOLDER.glob("*.ipynb"))


@cache
def read(path: Path) -> NotebookNode:
    """The notebook, read once."""
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[tuple[int, NotebookNode]]:
    """The code cells that are not empty, with their places in the notebook."""
    return [(i, cell) for i, cell in enumerate(read(path).cells) if cell.cell_type == "code" and cell.source.strip()]


def markdown_cells(path: Path) -> list[tuple[int, NotebookNode]]:
    """The text cells, with their places in the notebook."""
    return [(i, cell) for i, cell in enumerate(read(path).cells) if cell.cell_type == "markdown"]


def parsed(source: str) -> ast.Module:
    """A cell's code; lines such as %matplotlib become the calls that they stand for."""
    return ast.parse(TransformerManager().transform_cell(source))


def tags(path: Path) -> list[tuple[int, str]]:
    """The numbered equations in their order: (cell, number)."""
    return [(i, tag) for i, cell in markdown_cells(path) for tag in re.findall(r"\\tag\{([^}]*)\}", cell.source)]


def is_check(node: ast.AST) -> bool:
    """Whether a node is a call such as check.identity(...)."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "check"
        and node.func.attr in CLAIM
    )


def slip_of(node: ast.AST) -> str | None:
    """The slip that a block `with check.refuses("A22"):` runs: what stands in it has to fail."""
    match node:
        case ast.With([ast.withitem(ast.Call(ast.Attribute(ast.Name("check"), "refuses"), [ast.Constant(slip), *_]))]):
            return str(slip)
    return None


def refusals(source: str) -> list[tuple[str, ast.With]]:
    """The slips that a cell runs, with their blocks."""
    return [(slip, node) for node in ast.walk(parsed(source)) if isinstance(node, ast.With) and (slip := slip_of(node))]


def check_calls(source: str) -> list[ast.Call]:
    """The checks that have to hold: all but those of a slip's wrong form."""
    tree = parsed(source)
    wrong = {id(part) for node in ast.walk(tree) if slip_of(node) for part in ast.walk(node)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and is_check(node)]
    return [node for node in calls if id(node) not in wrong]


def checked_tags(path: Path) -> list[tuple[int, str, str]]:
    """The checks that have to hold: (cell, equation, kind)."""
    return [
        (i, ast.literal_eval(call.args[0]), call.func.attr)  # type: ignore[attr-defined]
        for i, cell in code_cells(path)
        for call in check_calls(cell.source)
    ]


def equations() -> list[Equation]:
    """Every numbered equation of the book in reading order, with the checks under it and the code that computes it."""
    found: dict[str, Equation] = {}
    for path in notebooks():
        section = ""
        for _, cell in markdown_cells(path):
            for heading, formula in re.findall(r"^## ([^\n]+)$|\$\$(.*?)\$\$", cell.source, re.MULTILINE | re.DOTALL):
                section = heading or section
                for tag in re.findall(r"\\tag\{([^}]*)\}", formula):
                    latex = " ".join(re.sub(r"\\tag\{[^}]*\}", "", formula).split())
                    found[tag] = Equation(tag, path.name, section, latex)
    for path in notebooks():
        if not tags(path):
            continue  # the clinic checks them again
        for _, tag, kind in checked_tags(path):
            if tag in found:
                found[tag].kinds.append(kind)
        for _, cell in code_cells(path):
            for output in cell.get("outputs", []):
                for tag, words in LINE.findall(str(output.get("data", {}).get("text/html", ""))):
                    if tag in found:
                        found[tag].shown.append(re.sub(r"<(?!/?(?:code|em)>).*?>", "", words))
                        found[tag].code += re.findall(r"<code>(.*?)</code>", words)
    for where, tag in citations():
        if tag in found and not where.startswith("book."):  # what draws and checks is not what computes
            found[tag].code.append(where)
    for slip, tag in slips():
        if tag in found:
            found[tag].slips.append(slip)
    for equation in found.values():
        equation.code = [
            c for c in dict.fromkeys(equation.code) if not any(d.startswith(f"{c}.") for d in equation.code)
        ]
        equation.slips = list(dict.fromkeys(equation.slips))
    return list(found.values())


def checks_in(tree: ast.AST) -> list[ast.Call]:
    """The calls of checks in a piece of code."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and is_check(node)]


def slips() -> list[tuple[str, str]]:
    """The slips that the clinic runs, each with the equation it is held against: that of the check it refuses, or, if what it
    refuses is code without a check, of the next one in the cell."""
    found = []
    for path in notebooks():
        for _, cell in code_cells(path):
            for slip, block in refusals(cell.source):
                calls = (
                    checks_in(block)
                    or [node for node in checks_in(ast.parse(cell.source)) if node.lineno > block.lineno][:1]
                )
                found += [(slip, ast.literal_eval(call.args[0])) for call in calls]
    return found


def citations() -> list[tuple[str, str]]:
    """Where docstrings of the package cite an equation of the book: ("process.forward.q_step", "4.1")."""
    cited = []
    for source in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(source.relative_to(PACKAGE).with_suffix("").parts)
        tree = ast.parse(source.read_text(encoding="utf-8"))
        for name, doc in [(module, ast.get_docstring(tree) or ""), *_docstrings(tree, module)]:
            for phrase in re.findall(rf"\bbook,\s+eqs?\.\s+({TAG}(?:(?:,?\s+and\s+|,\s+){TAG})*)", doc):
                cited += [(name, tag) for tag in re.findall(TAG, phrase)]
    return cited


def _docstrings(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield f"{prefix}.{node.name}", ast.get_docstring(node) or ""
            if isinstance(node, ast.ClassDef):
                yield from _docstrings(node, f"{prefix}.{node.name}")
