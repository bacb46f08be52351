"""A chapter as one HTML file."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from diffnotes.__main__ import main
from diffnotes.book.press import export
from diffnotes.book.press.scan import FOLDER

VIEW = {"version_major": 2, "version_minor": 0, "model_id": "0" * 32}
PICTURE = '<img alt="A picture." src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'


def notebook() -> nbformat.NotebookNode:
    """A formula, a widget with a picture behind it, and a widget alone."""
    bundle = {export.WIDGET_VIEW: VIEW, "text/html": PICTURE, "text/plain": "An interactive figure"}
    outputs = [nbformat.v4.new_output("display_data", data=data) for data in (bundle, {export.WIDGET_VIEW: VIEW})]
    text = "$$ x_0 \\tag{A.1} $$ and [next](02_next.ipynb#eq-10.1), [this](01_one.ipynb), [other](03_other.ipynb)"
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("explore()", outputs=outputs)]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"0" * 32: {}}}}
    return nbformat.v4.new_notebook(cells=cells, metadata={"widgets": state})


def test_a_widgets_view_goes_where_a_picture_stands_behind_it():
    chapter = notebook()
    export.without_widgets(chapter)
    first, second = (output.data for output in chapter.cells[1].outputs)
    assert first == {"text/html": PICTURE, "text/plain": "An interactive figure"} and second == {
        export.WIDGET_VIEW: VIEW
    }
    assert "widgets" not in chapter.metadata


def test_the_page_has_the_pictures_and_asks_for_nothing():
    page = export.export(notebook(), "01_one")
    assert re.search(r'<img alt="A picture\."[^>]* src="data:image/gif', page) and "<title>01_one</title>" in page
    asked = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)([^"]*)"', page)
    assert asked == [] and not re.search(r"""(@import|import\s*\(|from)\s*["']http""", page)
    assert "\\tag{A.1}" in page and len(page) > 2_000_000  # MathJax is in it


def test_links_lead_to_the_chapters_that_are_exported_too():
    page = export.export(notebook(), "01_one", ["01_one.ipynb", "02_next.ipynb"])
    assert re.findall(r'href="(0\d_[^"]*)"', page) == ["02_next.html#eq-10.1", "01_one.html", "03_other.ipynb"]


def written(path: Path, *cells: nbformat.NotebookNode) -> Path:
    """A notebook with these cells, saved at `path`."""
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


def test_the_command_writes_a_file_or_a_folder_of_files(tmp_path, capsys):
    chapters = [str(FOLDER / name) for name in ("00_start_here.ipynb", "91_errata_clinic.ipynb")]
    assert main(["export", chapters[0], "-o", str(tmp_path / "start.html")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'start.html'}: ")
    assert main(["export", *chapters, "--out", str(tmp_path / "pages")]) == 0
    assert {path.name for path in tmp_path.rglob("*.html")} == {
        "start.html",
        "00_start_here.html",
        "91_errata_clinic.html",
    }
    page = (tmp_path / "pages" / "00_start_here.html").read_text(encoding="utf-8")
    assert 'href="91_errata_clinic.html' in page and "<img alt=" in page


def test_without_out_the_page_lies_beside_the_notebook(tmp_path, capsys):
    path = written(tmp_path / "one.ipynb", *notebook().cells)
    assert main(["export", str(path)]) == 0
    page = tmp_path / "one.html"
    assert capsys.readouterr().out == f"{page}: {page.stat().st_size / 1e6:.1f} MB\n"
    assert PICTURE.partition("src=")[2].strip(">") in page.read_text(encoding="utf-8")


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    """A folder, the current one, with what is not a chapter that was run."""
    monkeypatch.chdir(tmp_path)
    Path("folder.ipynb").mkdir()
    Path("empty.ipynb").touch()
    Path("picture.ipynb").write_bytes(b"\x89PNG\r\n")
    Path("list.ipynb").write_text("[1, 2]")
    Path("number.ipynb").write_text("3")
    Path("other.ipynb").write_text(json.dumps({"name": "x"}))
    Path("invalid.ipynb").write_text(json.dumps(NO_OUTPUTS))
    Path("README.md").write_text("# words")
    Path("taken").write_text("a file")
    written(Path("fresh.ipynb"), nbformat.v4.new_code_cell("6 * 7"))
    written(Path("text.ipynb"), nbformat.v4.new_markdown_cell("# only text"))
    return tmp_path


WITHOUT = {"cell_type": "code", "source": "1", "metadata": {}}  # neither outputs nor a number
NO_OUTPUTS = {"cells": [WITHOUT], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
ODD = ("empty.ipynb", "picture.ipynb", "list.ipynb", "number.ipynb", "other.ipynb", "invalid.ipynb", "README.md")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("nowhere.ipynb", "there is no notebook nowhere.ipynb"),
        ("folder.ipynb", "folder.ipynb must be a notebook, got a folder"),
        *((name, f"{name} must be a notebook (.ipynb), got something else") for name in ODD),
        ("fresh.ipynb", "fresh.ipynb has not been run: run it in JupyterLab and save it, or add --run"),
        ("text.ipynb fresh.ipynb", "fresh.ipynb has not been run: run it in JupyterLab and save it, or add --run"),
        ("text.ipynb nowhere.ipynb -o c.html", "--out must be a folder for 2 notebooks, got c.html"),
        ("text.ipynb -o c.pdf", "--out must be an HTML file or a folder, got c.pdf"),
        ("text.ipynb -o taken", "--out must be an HTML file or a folder, got taken"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(odd, arguments, message, capsys):
    before = sorted(odd.rglob("*"))
    assert main(["export", *arguments.split()]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"diffnotes export: {message}\n")
    assert sorted(odd.rglob("*")) == before


def test_a_notebook_of_words_only_needs_no_run(odd):
    assert main(["export", "text.ipynb"]) == 0
    assert "only text" in (odd / "text.html").read_text(encoding="utf-8")


def test_cells_that_were_not_run_are_counted(tmp_path, capsys):
    run = nbformat.v4.new_code_cell("x = 1", execution_count=1)
    path = written(tmp_path / "half.ipynb", run, nbformat.v4.new_code_cell("x"), nbformat.v4.new_code_cell(""))
    assert main(["export", str(path)]) == 0
    assert capsys.readouterr().err == f"{path}: 1 of 2 cells have not been run\n"


def test_run_runs_the_cells_in_the_notebooks_own_folder_and_leaves_the_notebook_alone(tmp_path):
    code = "from pathlib import Path\nPath('here').touch()\nprint(6 * 7)"
    path = written(tmp_path / "one.ipynb", nbformat.v4.new_code_cell(code))
    before = path.read_bytes()
    assert main(["export", str(path), "--run"]) == 0
    assert (tmp_path / "here").exists() and path.read_bytes() == before
    assert "<pre>42" in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_a_cell_that_fails_is_told_in_a_line(tmp_path, capsys):
    path = written(tmp_path / "one.ipynb", nbformat.v4.new_code_cell("1 / 0"))
    assert main(["export", str(path), "--run"]) == 1
    assert capsys.readouterr().err == f"diffnotes export: a cell of {path} fails: ZeroDivisionError: division by zero\n"
    assert not (tmp_path / "one.html").exists()
