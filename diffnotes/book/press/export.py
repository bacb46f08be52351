"""A chapter as one HTML file with everything in it, to be read offline, sent and printed:

    python -m diffnotes.book.press.export notebooks/01_forward_process.ipynb --out chapter.html

It takes the stored outputs, or with --execute those of a fresh run in the notebook's own folder. Where a picture stands
behind a widget, the picture is taken. MathJax goes into the file if the extra `docs` is installed; without it formulas are
drawn by a MathJax from the internet, and offline their LaTeX is read.
"""

import argparse
import importlib.metadata
import re
from collections.abc import Collection
from pathlib import Path

import nbformat
from nbformat import NotebookNode

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MATHJAX = "sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"
MATHJAX_ONLINE = "https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-svg-full.js"
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
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=resources).execute()


def _page(name: str) -> str:
    return f"{name.removesuffix('.ipynb')}.html"


def _mathjax() -> str:
    """The script element with MathJax in it, or with its address if it is not installed."""
    try:
        path = importlib.metadata.distribution("sphinx-mathjax-offline").locate_file(MATHJAX)
    except importlib.metadata.PackageNotFoundError:
        return f'<script async src="{MATHJAX_ONLINE}"></script>'
    script = Path(str(path)).read_text(encoding="utf-8")
    safe = re.sub("</(script)", r"<\\/\1", script, flags=re.IGNORECASE)  # what would end the element
    return f"<script>{safe}</script>"


def main(arguments: list[str] | None = None) -> None:
    """Export the notebooks named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m diffnotes.book.press.export", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("notebooks", nargs="+", type=Path, help="chapters, notebooks/*.ipynb")
    parser.add_argument(
        "--out", type=Path, help="the HTML file, or a folder for several (default: beside each notebook)"
    )
    parser.add_argument("--execute", action="store_true", help="run the cells first, in the notebook's own folder")
    options = parser.parse_args(arguments)
    to_a_file = options.out is not None and options.out.suffix in (".html", ".htm")
    if to_a_file and len(options.notebooks) > 1:
        parser.error(f"--out must be a folder for {len(options.notebooks)} notebooks, got {options.out}")
    for path in options.notebooks:
        if not path.is_file():
            parser.error(f"there is no notebook {path}")
    names = [path.name for path in options.notebooks]
    for path in options.notebooks:
        notebook = nbformat.read(path, as_version=4)
        if options.execute:
            execute(notebook, path.parent)
        out = options.out if to_a_file else (options.out or path.parent) / _page(path.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(export(notebook, path.stem, names), encoding="utf-8")
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
