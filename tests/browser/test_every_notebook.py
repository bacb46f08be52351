"""Every notebook, as its reader meets it: opened without running it, and after Run All."""

import os
import re
from collections.abc import Callable

import nbformat
import pytest
from lab import NOTEBOOKS, Notebook, Server
from playwright.sync_api import expect

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_as_its_reader_meets_it(name: str, open_notebook: Callable[[str], Notebook]) -> None:
    """First as cloned: JupyterLab then shows no scripts and no widgets. Then trusted, and then run."""
    notebook = open_notebook(name)
    assert notebook.trouble() == []
    notebook.trust()
    assert notebook.trouble() == []
    notebook.run_all()
    trouble = notebook.trouble()
    if os.environ.get("CI") != "true":  # to be looked at: .artifacts/<notebook>-01.png and so on
        notebook.screenshots(name.removesuffix(".ipynb"))
    assert trouble == []
    for slider in notebook.panel.get_by_role("slider").all():
        expect(slider).to_have_accessible_name(re.compile(r"\S"))


WIDGET = {"version_major": 2, "version_minor": 0, "model_id": "0" * 32}
BROKEN = {  # what stands in a cell, and what is to be said about it
    "formula: an unknown macro": nbformat.v4.new_markdown_cell(r"$$ \frac{1}{\sqrt{2}} \nosuchmacro $$"),
    "formula: Missing argument": nbformat.v4.new_markdown_cell(r"$$ \frac{1} $$"),
    "output: NameError": nbformat.v4.new_output("error", ename="NameError", evalue="x", traceback=["NameError: x"]),
    "output: Warning": nbformat.v4.new_output("stream", name="stderr", text="Warning: old"),
    "widget: Error displaying": nbformat.v4.new_output(
        "display_data", data={"application/vnd.jupyter.widget-view+json": WIDGET}
    ),
    "widget: An interactive figure": nbformat.v4.new_output(
        "display_data", data={"text/plain": "An interactive figure: run the notebook to use it."}
    ),
    "picture 0 is not to be seen": nbformat.v4.new_output(
        "display_data", data={"text/html": '<img src="data:," alt="a">'}
    ),
    "picture 1 has no alt text": nbformat.v4.new_output(
        "display_data",
        data={"text/html": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" width="90" height="90">'},
    ),
    "picture 2 is wider": nbformat.v4.new_output(
        "display_data", data={"text/html": '<img src="data:," alt="a" style="width:3000px;max-width:none">'}
    ),
}


def test_trouble_is_found(server: Server, open_notebook: Callable[[str], Notebook]) -> None:
    """A notebook with everything wrong that the tests above look for."""
    cells = [
        part if "cell_type" in part else nbformat.v4.new_code_cell("0", outputs=[part], execution_count=1)
        for part in BROKEN.values()
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), server.root / "broken.ipynb")
    notebook = open_notebook("broken.ipynb")
    notebook.trust()
    notebook.panel.get_by_text("Error displaying widget").wait_for()
    found = notebook.trouble()
    assert [said for said in BROKEN if not any(line.startswith(said) for line in found)] == []
