"""Chapter 92, the index of equations, made from a scan of all the notebooks: python -m diffnotes.book.press.index

It writes the text cells of notebooks/92_equation_index.ipynb; a test holds that they are current. `search` is the field
in that notebook with which a reader finds an equation.
"""

import html
import re
from collections import Counter

import ipywidgets as widgets
import nbformat

from diffnotes.book.live.widgets import FOR_THE_KEYBOARD, show_widget
from diffnotes.book.press.scan import FOLDER, Equation, equations, read
from diffnotes.book.proof.chapters import CHAPTERS, address, label, number_of

PATH = FOLDER / f"{CHAPTERS[92]}.ipynb"
HOW = {  # what a check's line begins with, and how the index says it
    "proved by sympy": "proved",
    "exact on a chain": "exact on a chain",
    "holds to rounding on a chain": "on a chain, to rounding",
    "is what the code computes": "code",
    "agrees in numbers": "numbers",
    "holds in all": "shown in all cases",
    "holds in the one": "shown in one case",
    "holds in": "random draws",
}
KINDS = {
    "identity": "identity",
    "discrete": "identity",
    "numeric": "identity",
    "inequality": "inequality",
    "monte_carlo": "expectation",
    "definition": "definition",
}
OPENING = """\
# 92 · Index of equations

Every numbered equation of the book on one page: what it says, how it is checked, which function of the package
computes it, and which slips of the [clinic](91_errata_clinic.ipynb) are held against it. The number leads to the
place where it is derived. The page is made by a program that reads the notebooks, so it says what is there and not
what we meant to put there.

**How it is checked.** *Proved*: sympy reduces the difference of the two sides to zero, for all values that the
symbols may take. *Exact on a chain*: both sides are computed for a small chain of finitely many states, as
fractions or, where there are logarithms, to rounding. *Code*: the package computes what the equation says, compared
on concrete numbers. *Numbers*: two computations agree to rounding. *Random draws*: a mean over draws with a fixed
seed lies within five standard errors. *Shown in all cases*: an inequality, tried on all the numbers that the cell
names. The word before it (identity, definition, inequality, expectation) is the kind of claim that the first check makes.

{summary}

This page is for looking things up; it runs in a second."""
SEARCHING = """\
Type a number, a word of a section's title, the name of a function, or a piece of LaTeX such as `bar\\alpha`.
Without a running kernel, your browser's own search does the same on the tables below."""
CLOSING = """\
## What you take with you

A map. If you met a formula elsewhere and wonder whether it is right, find its neighbour here, follow the number,
and compare; the line under the equation tells how far you may trust it. If you change the package, the functions named
here tell which equations you have to keep true.

**Next:** back to the [start](00_start_here.ipynb), or into the [clinic](91_errata_clinic.ipynb), where the wrong
forms are."""


def how(equation: Equation) -> list[str]:
    """How an equation is checked, in the index's words."""
    words = [next(w for begin, w in HOW.items() if line.startswith(begin)) for line in equation.shown]
    return list(dict.fromkeys(words))


def kind(equation: Equation) -> str:
    """Definition, identity, inequality or a claim about an expectation: told by the first check under it."""
    return KINDS[equation.kinds[0]] if equation.kinds else "unchecked"


def table(chapter: int, found: list[Equation]) -> str:
    """The text cell of one chapter."""
    title = re.sub(r"^# \w+ · ", "", read(FOLDER / f"{CHAPTERS[chapter]}.ipynb").cells[0].source.splitlines()[0])
    lines = [f"## {label(chapter)} · {title}", "", "| | |", "|---|---|"]
    for e in found:
        formula = re.sub(r"\\\|", r"\\Vert ", e.latex.rstrip(". ,")).replace("|", r"\vert ")
        section = re.sub(r"^[\d.]+ ", "", e.section)
        code = ", ".join(f"`{c.removeprefix('process.')}`" for c in e.code)
        slips = ", ".join(f"[{s}]({CHAPTERS[91]}.ipynb#{s})" for s in e.slips)
        about = [f"*{section}*", kind(e), f"checked: {', '.join(how(e))}", code, slips and f"slips: {slips}"]
        lines.append(
            f"| [({e.tag})]({address(e.tag, 92)}) | $\\displaystyle {formula}$<br>{' · '.join(filter(None, about))} |"
        )
    return "\n".join(lines)


def cells() -> list[str]:
    """The text cells of the index, as the notebooks stand now."""
    found = equations()
    ways = Counter(way for e in found for way in how(e))
    on_a_chain = sum(any("on a chain" in way for way in how(e)) for e in found)
    summary = (
        f"The book has **{len(found)} numbered equations**. Of these, {ways['proved']} are proved by sympy, "
        f"{on_a_chain} are verified on a chain by summing over all its paths, "
        f"{ways['code']} are compared with the package's code, "
        f"{ways['numbers']} with a second computation, {ways['random draws']} with random draws; many in more than one way."
    )
    chapters = sorted({number_of(e.tag) for e in found})
    tables = [table(c, [e for e in found if number_of(e.tag) == c]) for c in chapters]
    return [OPENING.format(summary=summary), SEARCHING, *tables, CLOSING]


def write() -> None:
    """Write the notebook's text cells, with the search field after the second."""
    opening, searching, *rest = map(nbformat.v4.new_markdown_cell, cells())
    field = nbformat.v4.new_code_cell("from diffnotes.book import index\n\nindex.search()")
    notebook = nbformat.v4.new_notebook(cells=[opening, searching, field, *rest])
    for number, cell in enumerate(notebook.cells):
        cell.id = f"index-{number}"  # the same again from the same book
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, PATH)


# -- the search field ---------------------------------------------------------------------------------------------------


def search() -> None:
    """A field to type in, and under it the equations that fit."""
    field, results = build_search()
    intro = widgets.HTML(f"<style>.diffnotes-index a {{white-space: nowrap}}</style>{FOR_THE_KEYBOARD}")
    show_widget(widgets.VBox([intro, field, results]), "<i>A search field stands here when the notebook runs.</i>")


def build_search() -> tuple[widgets.Text, widgets.HTML]:
    """The field and its results, not yet shown."""
    found = equations()
    field = widgets.Text(
        placeholder="posterior, 5.4, q_sample, bar\\alpha ...", description="find", continuous_update=True
    )
    results = widgets.HTML()

    def update(_change: object = None) -> None:
        results.value = matches(found, field.value)

    field.observe(update, "value")
    update()
    return field, results


def matches(found: list[Equation], wanted: str, most: int = 12) -> str:
    """HTML with the equations in which all words of `wanted` occur, in number, section, formula, code or way of checking."""
    words = wanted.lower().split()
    if not words:
        return f"{len(found)} equation{'s' * (len(found) != 1)}."
    fitting = [e for e in found if all(word in _text(e) for word in words)]
    if not fitting:
        return f"No equation has <b>{html.escape(wanted)}</b>."
    lines = [
        f'<div><a href="{address(e.tag, 92)}">({e.tag})</a> {html.escape(e.section)} · {", ".join(how(e))}'
        f"{' · <code>' + '</code>, <code>'.join(map(html.escape, e.code)) + '</code>' if e.code else ''}</div>"
        for e in fitting[:most]
    ]
    more = f"<div>and {len(fitting) - most} more</div>" if len(fitting) > most else ""
    return f'<div class="diffnotes-index">{"".join(lines)}{more}</div>'


def _text(e: Equation) -> str:
    return " ".join([e.tag, e.section, e.latex, *e.code, *how(e), kind(e)]).lower()


if __name__ == "__main__":
    write()
    print(PATH.name)
