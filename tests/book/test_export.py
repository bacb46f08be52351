"""A chapter as one HTML file."""

import re

import nbformat
import pytest

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


def test_without_mathjax_the_page_names_one_on_the_internet(monkeypatch):
    def missing(name):
        raise export.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(export.importlib.metadata, "distribution", missing)
    assert f'<script async="" src="{export.MATHJAX_ONLINE}"></script>' in export.export(notebook(), "01_one")


def test_the_command_writes_a_file_or_a_folder_of_files(tmp_path, capsys):
    chapters = [str(FOLDER / name) for name in ("00_start_here.ipynb", "91_errata_clinic.ipynb")]
    export.main([chapters[0], "--out", str(tmp_path / "start.html")])
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'start.html'}: ")
    export.main([*chapters, "--out", str(tmp_path / "pages")])
    assert {path.name for path in tmp_path.rglob("*.html")} == {
        "start.html",
        "00_start_here.html",
        "91_errata_clinic.html",
    }
    page = (tmp_path / "pages" / "00_start_here.html").read_text()
    assert 'href="91_errata_clinic.html' in page and "<img alt=" in page


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.ipynb"], "there is no notebook nowhere.ipynb"),
        (["a.ipynb", "b.ipynb", "--out", "c.html"], "--out must be a folder for 2 notebooks, got c.html"),
        ([], "the following arguments are required: notebooks"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        export.main(arguments)
    assert message in capsys.readouterr().err


def test_cells_run_in_the_notebooks_own_folder(tmp_path):
    code = "from pathlib import Path\nPath('here').touch()\nprint(6 * 7)"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), tmp_path / "one.ipynb")
    export.main([str(tmp_path / "one.ipynb"), "--execute"])
    assert (tmp_path / "here").exists() and "42" in (tmp_path / "one.html").read_text()
