"""The exercises in the notebooks: each has its task, a cell for the answer that says "not tried yet", a hint and a solution,
and the solution passes."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from book_files import FOLDER, NOTEBOOKS, code_cells, markdown_cells, parsed, read
from perturbed import _needed_cells

from diffnotes.book import exercises
from diffnotes.book.exercises import EXERCISES
from diffnotes.book.proof.chapters import CHAPTERS, number_of

WITH_EXERCISES = {n: FOLDER / f"{CHAPTERS[n]}.ipynb" for n in sorted(map(number_of, EXERCISES))}
every_chapter = pytest.mark.parametrize("path", WITH_EXERCISES.values(), ids=lambda path: path.stem)
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)


def check_call(source: str) -> ast.Call | None:
    """The call exercises.check(tag, answer) with which a cell ends, if it does."""
    match parsed(source).body:
        case [*_, ast.Expr(ast.Call(ast.Attribute(ast.Name("exercises"), "check")) as call)]:
            return call
    return None


@cache
def cells_of(path: Path) -> dict[str, int]:
    """The exercises of a notebook, in their order, with their cells."""
    calls = [(i, check_call(cell.source)) for i, cell in code_cells(path)]
    return {ast.literal_eval(call.args[0]): i for i, call in calls if call}


def place(tag: str) -> tuple[Path, int]:
    """Where the cell of an exercise stands: notebook and number."""
    path = WITH_EXERCISES[number_of(tag)]
    return path, cells_of(path)[tag]


@cache
def imported(path: Path) -> dict[str, Any]:
    """What a notebook has imported by its end: all that a solution may need besides its own cell."""
    lines = [node for _, cell in code_cells(path) for node in ast.walk(parsed(cell.source))]
    imports = [node for node in lines if isinstance(node, ast.Import | ast.ImportFrom)]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(imports, []), path.name, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[exercises.Shown]:
    found: list[exercises.Shown] = []
    monkeypatch.setenv("DIFFNOTES_PROGRESS", str(tmp_path))
    monkeypatch.setattr(exercises, "display", found.append)
    return found


@every_chapter
def test_a_chapter_has_three_to_five_exercises_of_three_kinds(path: Path):
    own = [tag for tag in EXERCISES if CHAPTERS[number_of(tag)] == path.stem]
    assert 3 <= len(own) <= 5 and len({type(EXERCISES[tag]) for tag in own}) >= 3


@every_chapter
def test_every_exercise_has_its_task_and_its_cell_in_order(path: Path):
    own = [tag for tag in EXERCISES if CHAPTERS[number_of(tag)] == path.stem]
    text = "\n\n".join(cell.source for _, cell in markdown_cells(path))
    assert list(cells_of(path)) == own
    assert re.findall(r"^\*\*Exercise (.*?)\.\*\* \*", text, re.MULTILINE) == [tag.removeprefix("0") for tag in own]


def test_no_exercise_is_without_a_notebook():
    assert set(WITH_EXERCISES.values()) <= set(NOTEBOOKS)


@pytest.mark.parametrize("tag", EXERCISES)
def test_the_cell_is_small_and_stands_between_its_task_and_its_solution(tag: str):
    path, i = place(tag)
    before, cell, after = read(path).cells[i - 1 : i + 2]
    assert len(cell.source.splitlines()) <= 6
    *_, task = before.source.split("**Exercise ")
    assert task.startswith(f"{tag.removeprefix('0')}.** ")
    hint, solution = after.source.split("</details>")[:2]
    assert hint.startswith("<details><summary>Hint</summary>\n\n") and SOLUTION.search(solution)


@pytest.mark.parametrize("tag", EXERCISES)
def test_the_cell_is_stored_as_not_tried_yet(tag: str):
    path, i = place(tag)
    (output,) = read(path).cells[i].outputs
    assert f"○ Exercise {tag.removeprefix('0')} · Not tried yet." in output.data["text/plain"]
    assert f"○ Exercise {tag.removeprefix('0')} · Not tried yet." in output.data["text/html"]


@pytest.mark.parametrize("tag", EXERCISES)
def test_the_cell_runs_untouched_and_with_its_solution(tag: str, shown: list[exercises.Shown]):
    path, i = place(tag)
    cell, after = read(path).cells[i : i + 2]
    names = dict(imported(path))
    exec(cell.source, names)
    assert "Not tried yet." in repr(shown[-1])
    exec(SOLUTION.search(after.source)[1], names)
    call = check_call(cell.source)
    exec(ast.unparse(call), names)
    assert f"✓ Exercise {tag.removeprefix('0')} · Right" in repr(shown[-1])


@every_chapter
def test_no_check_of_an_equation_needs_a_cell_of_an_exercise(path: Path):
    needed = {i for i, _ in _needed_cells([(i, cell.source) for i, cell in code_cells(path)])}
    assert needed.isdisjoint(cells_of(path).values())
