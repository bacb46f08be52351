"""Chapter 92, the index of equations, made from a scan of all the notebooks: python -m diffnotes.book.press.index

It writes the text cells of notebooks/92_equation_index.ipynb; a test holds that they are current. `search` is the field
in that notebook with which a reader finds an equation: it reads the lines written there, and so needs no stored outputs.
"""

import html
import re
from dataclasses import dataclass

import ipywidgets as widgets
import nbformat

from diffnotes.book.live.widgets import FOR_THE_KEYBOARD, show_widget
from diffnotes.book.press.scan import FOLDER, Equation, equations, read
from diffnotes.book.proof.chapters import CHAPTERS, address, label, number_of

PATH = FOLDER / f"{CHAPTERS[92]}.ipynb"
HOW = {  # what a check's line begins with, and how the index says it
    "proved by sympy": "proved",
    "exact on a chain": "exact on a finite chain",
    "holds to rounding on a chain": "on a finite chain, to rounding",
    "is what the code computes": "compared with the code",
    "agrees in numbers": "compared in numbers",
    "holds in all": "shown in all cases",
    "holds in the one": "shown in one case",
    "holds in": "random draws",
}
LEMMA = "a lemma of it "  # how a line begins whose check is of a step towards the equation
OPENING = """\
# 92 · Index of equations

Every numbered equation of the book on one page: what it says, how it is checked, which function of the package
computes it, and which slips of the [clinic](91_errata_clinic.ipynb) are held against it. The number leads to the
place where it is derived. A function's name begins below `diffnotes`, or below `diffnotes.process`.

**How it is checked.** *Proved*: sympy reduces the difference of the two sides to zero, for all values that the
symbols may take, and the two sides are the whole equation. *Proved for ...*: they are the special case that is named.
*A lemma of it ...*: they are not the equation but a step towards it; the words say which. *Exact on a finite chain*:
both sides are computed for a small chain of finitely many states, as fractions or, where there are logarithms, to
rounding. *Compared with the code*: the package computes what the equation says, on concrete numbers. *Compared in
numbers*: two computations agree to rounding. *Random draws*: a mean over draws with a fixed seed lies within five
standard errors. *Shown in all cases*, or *in one*: an inequality, tried on the numbers that the cell names.

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
    words = []
    for line in equation.shown:
        of_lemma, line = line.startswith(LEMMA), line.removeprefix(LEMMA)
        way = next(w for begin, w in HOW.items() if line.startswith(begin))
        qualifier = re.search("<em>(.*?)</em>", line)
        if of_lemma and qualifier:
            way = f"{LEMMA}{way.replace('random', 'in random')}: {qualifier[1]}"
        elif qualifier:
            way = f"{way} for {qualifier[1]}"
        words.append(way)
    return list(dict.fromkeys(words))


def title(chapter: int) -> str:
    """What stands in the heading of a chapter, without its number."""
    heading = read(FOLDER / f"{CHAPTERS[chapter]}.ipynb").cells[0].source.splitlines()[0]
    return re.sub(r"^# \w+ · ", "", heading)


def table(chapter: int, found: list[Equation]) -> str:
    """The text cell of one chapter."""
    name = f'<a id="chapter-{label(chapter)}"></a>{label(chapter)} · {title(chapter)}'
    return "\n".join([f"## {name}", "", "| | |", "|---|---|", *map(row, found)])


def row(e: Equation) -> str:
    """The line of one equation; `lines` reads it again."""
    formula = re.sub(r"\\\|", r"\\Vert ", e.latex.rstrip(". ,")).replace("|", r"\vert ")
    section = re.sub(r"^(?:[A-Z]\.)?[\d.]+ ", "", e.section)
    code = ", ".join(f"`{c.removeprefix('process.')}`" for c in e.code)
    slips = ", ".join(f"[{s}]({CHAPTERS[91]}.ipynb#{s})" for s in e.slips)
    ways = "; ".join(how(e)).replace("|", "&#124;")
    about = [f"*{section}*", f"checked: {ways}", code, slips and f"slips: {slips}"]
    return f"| [({e.tag})]({address(e.tag, 92)}) | $\\displaystyle {formula}$<br>{' · '.join(filter(None, about))} |"


def cells() -> list[str]:
    """The text cells of the index, as the notebooks stand now."""
    found = equations()
    summary = summary_of(found)
    chapters = sorted({number_of(e.tag) for e in found})
    tables = [table(c, [e for e in found if number_of(e.tag) == c]) for c in chapters]
    links = " · ".join(f"{label(c)} [{title(c)}](#chapter-{label(c)})" for c in chapters)
    return [OPENING.format(summary=summary), f"{SEARCHING}\n\n{links}", *tables, CLOSING]


def summary_of(found: list[Equation]) -> str:
    """How many equations are checked in which way; whole proofs are counted apart from those of a case or a lemma."""

    def number(*beginnings: str) -> int:
        return sum(any(way.startswith(beginnings) for way in how(e)) for e in found)

    whole = [e for e in found if "proved" in how(e)]
    in_part = [e for e in found if e not in whole and any(w.startswith(("proved", f"{LEMMA}proved")) for w in how(e))]
    counted = ("proved", f"{LEMMA}proved", "exact", "on a finite", "compared", "random", "shown")
    others = [e for e in found if not any(way.startswith(counted) for way in how(e))]
    return (
        f"The book has **{len(found)} numbered equations**. Of these, {len(whole)} are proved by sympy as they stand, "
        f"and of {len(in_part)} more a special case or a lemma; "
        f"{number('exact on a finite chain', 'on a finite chain')} are verified on a chain by summing over all its paths, "
        f"{number('compared with the code')} are compared with the package's code, "
        f"{number('compared in numbers')} with a second computation, "
        f"{number('random draws')} with random draws, and {number('shown')} are inequalities tried on numbers; many in more "
        f"than one way. Of the other {len(others)}, a step is checked in numbers."
    )


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


@dataclass
class Line:
    """A line of the index, taken apart."""

    tag: str
    latex: str
    section: str
    ways: str  # how it is checked
    code: list[str]


LINE = re.compile(
    r"^\| \[\((?P<tag>[^)]+)\)\]\([^)]+\) \| \$\\displaystyle (?P<latex>.*?)\$<br>\*(?P<section>.*?)\*"
    r" · checked: (?P<ways>.*?)(?: · (?P<code>`[^·]*`))?(?: · slips: .*)? \|$",
    re.MULTILINE,
)


def lines(text: str) -> list[Line]:
    """The equations of a text cell of the index."""
    found = []
    for match in LINE.finditer(text):
        latex = match["latex"].replace(r"\Vert ", r"\|").replace(r"\vert ", "|")
        code = re.findall("`(.*?)`", match["code"] or "")
        found.append(Line(match["tag"], latex, match["section"], match["ways"], code))
    return found


def build_search() -> tuple[widgets.Text, widgets.HTML]:
    """The field and its results, not yet shown."""
    found = [line for cell in read(PATH).cells for line in lines(cell.source)]
    field = widgets.Text(
        placeholder="posterior, 5.4, q_sample, bar\\alpha ...", description="find", continuous_update=True
    )
    results = widgets.HTML()

    def update(_change: object = None) -> None:
        results.value = matches(found, field.value)

    field.observe(update, "value")
    update()
    return field, results


def matches(found: list[Line], wanted: str, most: int = 12) -> str:
    """HTML with the equations in which all words of `wanted` occur, in number, section, formula, code or way of checking."""
    words = wanted.lower().split()
    if not words:
        return f"{len(found)} equation{'s' * (len(found) != 1)}."
    fitting = [line for line in found if all(word in _text(line) for word in words)]
    if not fitting:
        return f"No equation has <b>{html.escape(wanted)}</b>."
    shown = [
        f'<div><a href="{address(line.tag, 92)}">({line.tag})</a> {html.escape(line.section)} · {line.ways}'
        f"{' · <code>' + '</code>, <code>'.join(map(html.escape, line.code)) + '</code>' if line.code else ''}</div>"
        for line in fitting[:most]
    ]
    more = f"<div>and {len(fitting) - most} more</div>" if len(fitting) > most else ""
    return f'<div class="diffnotes-index">{"".join(shown)}{more}</div>'


def _text(line: Line) -> str:
    return html.unescape(" ".join([line.tag, line.section, line.latex, *line.code, line.ways])).lower()


if __name__ == "__main__":
    write()
    print(PATH.name)
