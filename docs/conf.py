"""The HTML edition of the book: make docs. The notebooks are shown with their stored outputs; nothing is executed."""

import importlib.util
import os
import shutil
import sys
import tomllib
from pathlib import Path

from sphinx.errors import ConfigError

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

# The address of the repository, such as https://github.com/NAME/diffnotes: with it, each chapter has buttons that open
# it on Binder and Colab. The workflow that publishes the site sets it; without it, the chapters can be downloaded.
REPOSITORY = os.environ.get("DIFFNOTES_REPOSITORY", "")
BRANCH = "main"

# Sphinx reads nothing outside its own folder: the notebooks are copied into it, and git ignores the copies.
CHAPTERS = DOCS / "notebooks"
CHAPTERS.mkdir(exist_ok=True)
originals = {path.name: path for path in (DOCS.parent / "notebooks").glob("*.ipynb")}
for copy in CHAPTERS.glob("*.ipynb"):
    if copy.name not in originals:
        copy.unlink()
for name, path in originals.items():
    copy = CHAPTERS / name
    if not copy.exists() or copy.read_bytes() != path.read_bytes():
        shutil.copyfile(path, copy)

# MathJax comes with a Python package, and is served from the site.
package = importlib.util.find_spec("sphinx-mathjax-offline")
if package is None or package.origin is None:
    raise ConfigError(
        "The HTML edition needs MathJax and more: pip install -c constraints.txt -e '.[docs]', or make docs"
    )
MATHJAX = Path(package.origin).parent / "static" / "mathjax" / "tex-svg-full.js"  # one file, with all that TeX has

project = "diffnotes"
author = "the diffnotes authors"
copyright = "2026, the diffnotes authors. Text and figures: CC BY 4.0. Code: MIT"
release = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_nb", "sphinx_copybutton", "curves", "edition", "live"]
exclude_patterns = ["_build", "live"]
nb_execution_mode = "off"  # what is stored in the notebooks is what is shown
nb_ipywidgets_js = {}  # no widgets: a picture stands behind each
nb_output_stderr = "remove"  # progress bars
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"  # of folded cells
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_title = "diffnotes"
DRAWN = DOCS.parent / "diffnotes" / "training" / "weights" / "mnist-small.png"  # for the start page, without scripts
html_static_path = ["static", str(MATHJAX), str(DRAWN)]
mathjax_path = MATHJAX.name
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_css_files = ["edition.css"]
html_js_files = ["print.js", ("choices.js", {"defer": "defer"}), ("formulas.js", {"defer": "defer"})]
html_sourcelink_suffix = ""
html_show_sphinx = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": BRANCH,
    "use_repository_button": bool(REPOSITORY),
    "use_issues_button": bool(REPOSITORY),
    "use_download_button": True,
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search field stands in the sidebar
    "launch_buttons": {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    }
    if REPOSITORY
    else {},
}
