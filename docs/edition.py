"""What the pages of the HTML edition need beyond MyST-NB: links to numbered equations, formulas as they were written, and
a line under each picture that moves when the chapter runs."""

import functools
import json
import re
from typing import Any

from curves import page_of, wrap
from docutils import nodes
from docutils.transforms import Transform
from live import beside
from sphinx.application import Sphinx

INTERACTIVE = "An interactive figure"  # how the plain text of an explorer's output begins (diffnotes.book.live.widgets)
# a displayed formula on lines of its own, perhaps within a quotation; MyST wants an empty line on both sides of it
DISPLAYED = re.compile(r"^(?P<indent>(?:> ?| )*)\$\$.+?\$\$[ ]*$", re.MULTILINE | re.DOTALL)
# a link to a heading: JupyterLab's anchor is the heading as it stands, MyST's is in small letters
HEADING = re.compile(r'(?<=\.html#)[A-Z]\w*(-\w+)+(?=")')
EXERCISE = re.compile(r'^exercises\.check\("([\w.]+)"', re.MULTILINE)
LINE_OF_INDEX = re.compile(r"^\| (?=\[\(([\w.]+)\)\])", re.MULTILINE)  # of an equation
CHINESE = re.compile(r"[\u4e00-\u9fff]+")  # told apart for screen readers and for the choice of a font
RUN_IT = '<p class="run-it">This moves under your hands when the chapter runs. Run it: {ways}</p>'
UNSOLVED = (
    '<p class="to-solve">○ Exercise {number} is answered in code, and checked when the chapter runs. Run it: {ways}; or '
    "<code>make lab</code> in the repository</p>"
)
HERE = '<p class="run-it">As the chapter showed it. Here the network runs in your browser:</p>'
RUN_IT_TOO = (
    '<p class="run-it">Computed in your browser, by the chapter\'s formulas. Run the chapter itself: {ways}</p>'
)


def prepare(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fit a page's source to the site: links, and the line under each explorer."""
    if not docname.startswith("notebooks/"):
        source[0] = CHINESE.sub(
            r'<span lang="zh-Hans">\g<0></span>', source[0].replace("](../notebooks/", "](notebooks/")
        )
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"]).replace("](../docs/", "](../")  # the site has the pages of docs/ at its top
            cell["source"] = DISPLAYED.sub(r"\g<indent>\n\g<0>\n\g<indent>", text)
            if docname.endswith("92_equation_index"):
                cell["source"] = LINE_OF_INDEX.sub(r'| <a id="line-\1"></a>', cell["source"])
        exercise = EXERCISE.search("".join(cell["source"])) if cell["cell_type"] == "code" else None
        if exercise:
            html = choice(exercise[1]) or UNSOLVED.format(
                number=exercise[1].removeprefix("0"), ways=ways_to_run(app, docname)
            )
            cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": {"text/html": html}}]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" not in data:
                continue
            html = links_to_pages("".join(data["text/html"]))
            if "".join(data.get("text/plain", "")).startswith(INTERACTIVE):
                name = page_of(docname, "".join(cell["source"]))
                line = (RUN_IT_TOO if name else RUN_IT).format(ways=ways_to_run(app, docname))
                alive = beside(docname, "".join(cell["source"]))
                line = HERE + alive if alive else line
                html = f'<div class="explorer">{wrap(name, html) if name else html}{line}</div>'
            data["text/html"] = html
    source[0] = json.dumps(notebook)


@functools.cache
def choice(tag: str) -> str:
    """An exercise that is a choice, with its answers, which docs/static/choices.js shows; nothing for the other kinds."""
    from diffnotes.book.exercises import verdicts

    found = verdicts(tag)
    number = tag.removeprefix("0")
    buttons = "".join(f'<button type="button" data-letter="{letter}">{letter}</button>' for letter in found)
    answers = "".join(
        f'<div data-verdict="{letter}" hidden>{links_to_pages(html)}</div>' for letter, html in found.items()
    )
    group = (
        f'<div role="group" aria-label="Exercise {number}: your choice">Exercise {number}, your choice: {buttons}</div>'
    )
    return f'<div class="choice">{group}<div role="status">{answers}</div></div>' if found else ""


def links_to_pages(html: str) -> str:
    """Links to notebooks as links to pages, and to headings as MyST writes them."""
    html = re.sub(r'(href="[\w-]+)\.ipynb', r"\1.html", html)
    return HEADING.sub(lambda link: link[0].lower(), html)


def ways_to_run(app: Sphinx, docname: str) -> str:
    """Links to a running copy of a chapter, and to the chapter's file."""
    name = docname.removeprefix("notebooks/")
    repository, branch = (
        app.config.html_theme_options["repository_url"],
        app.config.html_theme_options["repository_branch"],
    )
    links = {"download the chapter": f"../_sources/{docname}.ipynb"}
    if repository.startswith("https://github.com/"):
        place = repository.removeprefix("https://github.com/")
        links = {
            "on Binder": f"https://mybinder.org/v2/gh/{place}/{branch}?urlpath=lab/tree/notebooks/{name}.ipynb",
            "on Colab": f"https://colab.research.google.com/github/{place}/blob/{branch}/notebooks/{name}.ipynb",
        } | links
    return " · ".join(f'<a href="{address}">{words}</a>' for words, address in links.items())


class Anchors(Transform):
    """Makes the anchors that the book writes in HTML, <a id="eq-1.6"></a>, known to links. One that stands in a heading
    becomes an id of its section: or the table of contents, which repeats the heading, would repeat the anchor."""

    default_priority = 870  # before MyST resolves the links of a page

    def apply(self, **kwargs: Any) -> None:
        """Add them to the headings' anchors."""
        slugs = dict(getattr(self.document, "myst_slugs", {}))
        for raw in list(self.document.findall(nodes.raw)):
            for anchor in re.findall(r'<a id="([^"]+)">', raw.astext()):
                slugs[anchor] = (raw.line or 0, anchor, "")
                if isinstance(raw.parent, nodes.title):
                    raw.parent.parent["ids"].append(anchor)
            if isinstance(raw.parent, nodes.title) and re.fullmatch(r'<a id="[^"]+">|</a>', raw.astext()):
                raw.parent.remove(raw)
        self.document.myst_slugs = slugs
        env = self.document.settings.env
        env.metadata[env.docname]["myst_slugs"] = slugs


class Tables(Transform):
    """Takes the empty head off a table without headings, which Markdown cannot write otherwise."""

    default_priority = 880

    def apply(self, **kwargs: Any) -> None:
        """Remove it, and let the style sheet know."""
        for table in self.document.findall(nodes.table):
            for head in list(table.findall(nodes.thead)):
                if not head.astext().strip():
                    head.parent.remove(head)
                    table["classes"].append("headless")


class Formulas(Transform):
    """Leaves displayed formulas as they were written: Sphinx would put those with a line break into a `split`, in which
    LaTeX allows no number."""

    default_priority = 880

    def apply(self, **kwargs: Any) -> None:
        """Write the delimiters out."""
        for formula in self.document.findall(nodes.math_block):
            if not formula.get("no-wrap"):
                formula["no-wrap"] = True
                formula.children = [nodes.Text(rf"\[{formula.astext()}\]")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", prepare)
    app.add_transform(Anchors)
    app.add_transform(Formulas)
    app.add_transform(Tables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
