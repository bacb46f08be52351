"""Slides: make slides. One deck for each chapter that has cells for it, with the chapter's own pictures and equations.

A cell becomes a slide where its metadata say so, as nbconvert reads them, with what the slide says in a sentence or two:

    "slideshow": {"slide_type": "slide", "title": "One step", "text": "It shrinks the image, and adds noise."}

A text cell gives its heading, where no title is named, and its numbered equations ("show": "all" takes the others too,
["1.1", "1.6"] takes these of the chapter); a code cell its stored picture ("show": "code" its code); the cell of an
exercise that is a choice its question, and at the next key the answer. The speaker's view (S) has the chapter's words.
nbconvert makes the deck; reveal.js from npm (live/package.json) and MathJax lie beside it."""

import html
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

DOCS = Path(__file__).parent
NOTEBOOKS = DOCS.parent / "notebooks"
REVEAL = DOCS / "live" / "node_modules" / "reveal.js"
REVEAL_FILES = ("LICENSE", "dist/reveal.css", "dist/reveal.js", "dist/plugin/notes.js", "dist/theme/white.css")
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
TAG = re.compile(r"\\tag\{([\w.]+)\}")
PICTURE = re.compile(r'<img [^>]*?src="data:image/[^>]*>')
EXERCISE = re.compile(r'^exercises\.check\("([\w.]+)"', re.MULTILINE)
LINK = re.compile(
    r"(?<!!)\[([^\]]+)\]\((?:[\w./-]+\.\w+)?(?:#[\w.-]+)?\)"
)  # to chapters, which do not lie beside a deck


def is_slide(cell: NotebookNode) -> bool:
    """Whether a cell is marked as a slide."""
    return cell.metadata.get("slideshow", {}).get("slide_type") == "slide"


def chapters() -> dict[str, NotebookNode]:
    """The notebooks that have slides, by name."""
    read = {path.stem: nbformat.read(path, as_version=4) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    return {name: notebook for name, notebook in read.items() if any(map(is_slide, notebook.cells))}


def slides(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Each slide of a chapter and the speaker's notes to it, as Markdown."""
    cells = notebook.cells
    for i, cell in enumerate(cells):
        if not is_slide(cell):
            continue
        about = cell.metadata["slideshow"]
        exercise = EXERCISE.search(cell.source)
        if exercise:
            yield choice(exercise[1], cells[i - 1].source)
        elif cell.cell_type == "code":
            words = cells[i + 1].source if cells[i + 1].cell_type == "markdown" else ""
            shown = f"```python\n{cell.source}\n```" if about.get("show") == "code" else picture(cell)
            yield laid_out(about.get("title"), shown, about.get("text")), spoken(words)
        elif i == 0:
            name, _, what = cell.source.splitlines()[0].removeprefix("# ").partition(": ")
            yield f'<div class="cover">\n\n# {name}\n\n{what}\n\n{about["text"]}\n\n</div>', spoken(cell.source)
        else:
            heading = re.search(r"^## (?:[\d.]+ )?(.+)$", cell.source, re.MULTILINE)
            title = about.get("title") or (heading and heading[1])
            yield laid_out(title, "\n\n".join(equations(cell, cells)), about.get("text")), spoken(cell.source)


def laid_out(title: str | None, shown: str, text: str | None) -> str:
    """A slide: what it shows between its title and what it says."""
    if not (title and shown and text):
        raise ValueError(
            f"a slide needs a title, a picture or an equation, and a text, got {title=}, {shown[:80]=}, {text=}"
        )
    return f'## {title}\n\n<div class="shown">\n\n{shown}\n\n</div>\n\n<div class="said">\n\n{text}\n\n</div>'


def equations(cell: NotebookNode, cells: list[NotebookNode]) -> list[str]:
    """The equations of a text cell's slide: those that it shows, of its chapter, or its own numbered ones."""
    show = cell.metadata["slideshow"].get("show")
    own = DISPLAYED.findall(cell.source)
    if show is None or show == "all":
        return [f"$${in_rows(tex)}$$" for tex in own if show or TAG.search(tex)]
    every = [tex for other in cells if other.cell_type == "markdown" for tex in DISPLAYED.findall(other.source)]
    found = {number[1]: tex for tex in every if (number := TAG.search(tex))}
    return [f"$${in_rows(found[number])}$$" for number in show]


def in_rows(tex: str) -> str:
    r"""A wide formula in rows, one for each part that \qquad sets apart; a row of words stays with what follows it."""
    tag = TAG.search(tex)
    parts, depth = [""], 0
    for piece in re.split(r"(\\qquad(?![a-zA-Z])|\\[{}]|[{}])", TAG.sub("", tex).strip()):
        depth += {"{": 1, "}": -1}.get(piece, 0)
        if piece == r"\qquad" and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    rows = [""]
    for part in parts:
        joined = rows[-1] + (r"\quad " if rows[-1] else "") + part.strip()
        rows[-1] = joined
        if not re.fullmatch(r"(?:\\text\{[^{}]*\}[ ,]*)+", part.strip()):
            rows.append("")
    rows = [row for row in rows if row]
    body = rows[0] if len(rows) == 1 else r"\begin{gathered}" + r" \\[0.7em] ".join(rows) + r"\end{gathered}"
    return body + (f" {tag[0]}" if tag else "")


def picture(cell: NotebookNode) -> str:
    """The picture in a cell's stored output."""
    stored = "".join("".join(output.get("data", {}).get("text/html", "")) for output in cell.outputs)
    found = PICTURE.search(stored)
    if found is None:
        raise ValueError(
            f"a slide's code cell must have a picture in its stored output, got none in: {cell.source[:200]}"
        )
    return re.sub(r' (?:width|style)="[^"]*"', "", found[0])


def choice(tag: str, source: str) -> tuple[str, str]:
    """An exercise that is a choice, with its right answer at the next key; in the notes what is wrong with the others."""
    from diffnotes.book.exercises import verdicts

    found = {letter: re.sub(r"</?a\b[^>]*>", "", words) for letter, words in verdicts(tag).items()}
    number = tag.removeprefix("0")
    task = without_links(source.partition(f"**Exercise {number}.**")[2]).replace("*Predict first.*", "").strip()
    right = next(words for words in found.values() if "✓" in words)
    wrong = "\n\n".join(words for words in found.values() if words != right)
    return (
        f'## Exercise {number}: predict first\n\n<div class="task">\n\n{task}\n\n<div class="fragment">{right}</div></div>',
        wrong,
    )


def spoken(source: str) -> str:
    """A cell's prose, for the speaker."""
    source = source.partition("\n**Exercise ")[0]
    source = re.sub(r"<details>.*?</details>|<a id=[^>]*></a>", "", source, flags=re.DOTALL)
    return without_links(DISPLAYED.sub("", re.sub(r"^#+ .*$", "", source, flags=re.MULTILINE)))


def without_links(words: str) -> str:
    """The words of the links to other chapters."""
    return LINK.sub(r"\1", words)


def deck(name: str, notebook: NotebookNode) -> str:
    """A chapter's slides as an HTML page."""
    from nbconvert import SlidesExporter

    cells = []
    for slide, notes in slides(notebook):
        for kind, source in (("slide", slide), ("notes", notes)):
            cells.append(nbformat.v4.new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}}))
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    exporter = SlidesExporter(
        template_file=str(DOCS / "deck" / "deck.html.j2"), reveal_url_prefix="reveal", reveal_theme="book", reveal_number="c/t",
        reveal_transition="none", reveal_width="1280", reveal_height="720", exclude_anchor_links=True,
    )  # fmt: skip
    made = nbformat.v4.new_notebook(cells=cells, metadata={"title": title})
    page, _ = exporter.from_notebook_node(made, resources={"metadata": {"name": name}})
    return page


def build(folder: Path) -> list[str]:
    """Write the decks and what they need; returns their names."""
    if not (REVEAL / "dist" / "reveal.js").exists():
        raise SystemExit("The slides need reveal.js, which npm fetches: npm ci --prefix docs/live --ignore-scripts")
    mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
    if mathjax is None or mathjax.origin is None:
        raise SystemExit("The slides need MathJax: pip install -c constraints.txt -e '.[docs]'")
    shutil.rmtree(folder, ignore_errors=True)
    copies = {REVEAL / name: folder / "reveal" / name for name in REVEAL_FILES} | {
        DOCS / "deck" / "book.css": folder / "reveal" / "dist" / "theme" / "book.css",
        DOCS / "static" / "favicon.svg": folder / "favicon.svg",
        Path(mathjax.origin).parent / "static" / "mathjax" / "tex-svg-full.js": folder / "tex-svg-full.js",
    }
    for source, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    lines = []
    for name, notebook in chapters().items():
        (folder / f"{name}.html").write_text(deck(name, notebook), encoding="utf-8")
        lines.append(f'<li><a href="{name}.html">{html.escape(notebook.cells[0].source.splitlines()[0][2:])}</a></li>')
    head = (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Slides</title><link rel="icon" href="favicon.svg">'
    )
    (folder / "index.html").write_text(f"{head}<h1>Slides</h1><ul>{''.join(lines)}</ul></html>", encoding="utf-8")
    return list(chapters())


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "_build" / "slides"
    for name in build(target):
        print(target / f"{name}.html")
