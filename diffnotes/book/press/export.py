"""A chapter as one HTML file with everything in it, to be read offline, sent and printed: python -m diffnotes export.

It takes the stored outputs, or those of a fresh run in the notebook's own folder. Where a picture stands behind a widget, the
picture is taken. MathJax is in the file too.
"""

import importlib.metadata
import json
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MATHJAX = "sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_js_mathjax %}
<script>window.MathJax = {
  tex: {inlineMath: [['$', '$'], ['\\\\(', '\\\\)']], processEscapes: true, processEnvironments: true},
  options: {ignoreHtmlClass: 'jp-InputArea-editor'}
};</script>
{{ resources.mathjax }}
{% endblock %}
"""


def export(notebook: NotebookNode, title: str, chapters: Collection[str] = ()) -> str:
    """The notebook as an HTML page that needs no other file; links to other `chapters` (names of notebooks) lead to pages of
    the same name."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    without_widgets(notebook)
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"chapter.html.j2": TEMPLATE})], template_file="chapter.html.j2", embed_images=True
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}, "mathjax": _mathjax()})
    for name in chapters:
        page = page.replace(f'href="{name}"', f'href="{_page(name)}"').replace(
            f'href="{name}#', f'href="{_page(name)}#'
        )
    return page


def without_widgets(notebook: NotebookNode) -> None:
    """Take the widgets' views out of the outputs that have a picture or text in HTML too, and the widgets' state."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if WIDGET_VIEW in data and "text/html" in data:
                del data[WIDGET_VIEW]
    notebook.metadata.pop("widgets", None)


def execute(notebook: NotebookNode, folder: Path, timeout: int | None = None) -> None:
    """Run all cells in `folder`; nbclient's CellExecutionError if one fails."""
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    quiet = ["--log-level=ERROR"]  # or every kernel warns that it talks over TCP, on this machine
    NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources=resources, extra_arguments=quiet
    ).execute()


def _page(name: str) -> str:
    return f"{name.removesuffix('.ipynb')}.html"


def _mathjax() -> str:
    """The script element with MathJax in it."""
    path = importlib.metadata.distribution("sphinx-mathjax-offline").locate_file(MATHJAX)
    script = Path(str(path)).read_text(encoding="utf-8")
    safe = re.sub("</(script)", r"<\\/\1", script, flags=re.IGNORECASE)  # what would end the element
    return f"<script>{safe}</script>"


# -- files -------------------------------------------------------------------------------------------------------------


def write(paths: Sequence[Path], out: Path | None = None, run: bool = False) -> Iterator[Path]:
    """Write the notebooks as pages, and yield each page's path when it is there. ValueError, before anything is written, if
    one of them is not there, is no notebook, or has not been run and `run` does not ask for it.

    out: an HTML file for one notebook, a folder for any number; unless given, each page lies beside its notebook."""
    to_a_file = out is not None and out.suffix in (".html", ".htm") and not out.is_dir()
    if to_a_file and len(paths) > 1:
        raise ValueError(f"--out must be a folder for {len(paths)} notebooks, got {out}")
    if out is not None and not to_a_file and (out.is_file() or (out.suffix and not out.is_dir())):
        raise ValueError(f"--out must be an HTML file or a folder, got {out}")
    chapters = [(path, load(path)) for path in paths]
    for path, notebook in chapters:
        if not run:
            _check_run(path, notebook)
    names = [path.name for path in paths]
    for path, notebook in chapters:
        if run:
            _run(path, notebook)
        page = out if to_a_file and out is not None else (out or path.parent) / _page(path.name)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(export(notebook, path.stem, names), encoding="utf-8")
        yield page


def load(path: Path) -> NotebookNode:
    """The notebook at `path`; ValueError says what is there instead."""
    if not path.exists():
        raise ValueError(f"there is no notebook {path}")
    if path.is_dir():
        raise ValueError(f"{path} must be a notebook, got a folder")
    try:
        text = path.read_text(encoding="utf-8")
        if "cells" not in json.loads(text):
            raise ValueError("no cells")
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, TypeError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} must be a notebook (.ipynb), got something else") from error
    return notebook


def _check_run(path: Path, notebook: NotebookNode) -> None:
    """ValueError if no cell has been run; a line on stderr if some have not."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    not_run = [cell for cell in cells if cell.execution_count is None and not cell.outputs]
    if cells and len(not_run) == len(cells):
        raise ValueError(f"{path} has not been run: run it in JupyterLab and save it, or add --run")
    if not_run:
        print(f"{path}: {len(not_run)} of {len(cells)} cells have not been run", file=sys.stderr)


def _run(path: Path, notebook: NotebookNode) -> None:
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    try:
        execute(notebook, path.resolve().parent)
    except CellExecutionError as error:
        raise RuntimeError(f"a cell of {path} fails: {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        raise RuntimeError(f"the kernel died that ran {path}") from error
