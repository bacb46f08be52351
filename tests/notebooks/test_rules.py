"""The rules that every notebook of the book keeps: how it is stored, how long its cells are, equations, links, pictures."""

import ast
import io
import os
import pydoc
import re
import statistics
import tokenize
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from book_files import FOLDER, NOTEBOOKS, ROOT, checked_tags, code_cells, is_check, markdown_cells, read, refusals, tags

from diffnotes.book import index, scan
from diffnotes.book.proof.chapters import CHAPTERS, TAG, label
from diffnotes.training.data import cache_folder

CLINIC = FOLDER / "91_errata_clinic.ipynb"
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
HIDING = ("clearly", "obviously", "it is easy to see", "simply put", "after some maths?")
NUMBERED = re.compile(rf'<a id="eq-({TAG})"></a>\s*\$\$(?:(?!\$\$).)*?\\tag\{{\1\}}', re.DOTALL)


def outputs(path: Path) -> Iterator[tuple[int, dict]]:
    """Every stored output, with its cell."""
    for i, cell in code_cells(path):
        for output in cell.outputs:
            yield i, output


def output_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every text that is stored as output, without the data of pictures."""
    for i, output in outputs(path):
        for text in [*output.get("data", {}).values(), output.get("text", ""), *output.get("traceback", [])]:
            yield i, re.sub(r"data:image/\w+;base64,[A-Za-z0-9+/=]*", "", str(text))


def prose(path: Path) -> str:
    """The words of the markdown cells: no equations of their own, code blocks or HTML tags; $x$ in a line is one word."""
    text = "\n\n".join(cell.source for _, cell in markdown_cells(path))
    for pattern, instead in ((r"```.*?```", ""), (r"\$\$.*?\$\$", ""), (r"\$[^$]*\$", "x"), (r"<[^>]*>", "")):
        text = re.sub(pattern, instead, text, flags=re.DOTALL)
    return text


def lines_of_code(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


def logical_lines(source: str) -> int:
    """Lines of code, a statement that runs over several counted once."""
    return sum(t.type == tokenize.NEWLINE for t in tokenize.generate_tokens(io.StringIO(source).readline))


def folded(cell: Any) -> bool:
    """Whether JupyterLab shows the cell's code only on a click."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def open_cells(path: Path) -> list[Any]:
    """The code cells that a reader sees."""
    return [cell for _, cell in code_cells(path) if not folded(cell)]


def test_there_are_notebooks():
    assert NOTEBOOKS


# -- how it is stored -----------------------------------------------------------------------------------------------------


@every_notebook
def test_no_widget_state_in_the_metadata(path: Path):
    assert "widgets" not in read(path).metadata


@every_notebook
def test_no_widget_views_in_the_outputs(path: Path):
    views = "application/vnd.jupyter.widget-view+json"
    assert [i for i, output in outputs(path) if views in output.get("data", {})] == []


@every_notebook
def test_file_is_at_most_600_kB(path: Path):
    assert path.stat().st_size <= 600_000


@every_notebook
def test_kernel_is_python3(path: Path):
    assert read(path).metadata.kernelspec.name == "python3"


@every_notebook
def test_metadata_record_real_mnist_at_the_full_budget(path: Path):
    record = read(path).metadata.get("diffnotes", {})
    assert record.get("budget") == "full"
    assert record.get("data", "").startswith("MNIST")
    assert record.get("seconds", 0) > 0
    assert record.get("versions")


@every_notebook
def test_cells_were_executed_in_order(path: Path):
    counts = [cell.execution_count for _, cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_no_errors_are_stored(path: Path):
    assert [i for i, output in outputs(path) if output.output_type == "error"] == []


@every_notebook
def test_cells_to_be_compared_have_outputs(path: Path):
    marked = [(i, cell) for i, cell in code_cells(path) if "nbval-check-output" in cell.metadata.get("tags", ())]
    assert [i for i, cell in marked if not cell.outputs] == []
    assert [
        i for i, cell in code_cells(path) if "NBVAL" in cell.source
    ] == []  # the mark is a tag: readers do not see it


@every_notebook
def test_no_absolute_paths(path: Path):
    absolute = re.compile(r"(?<![\w.~])/(home|root|tmp|usr|Users|var|opt|mnt)/|\b[A-Z]:\\(Users|Program|Windows)")
    sources = ((i, cell.source) for i, cell in enumerate(read(path).cells))
    assert [(i, text[:80]) for i, text in (*sources, *output_texts(path)) if absolute.search(text)] == []


@every_notebook
def test_no_folder_of_this_machine_in_the_outputs(path: Path):
    folders = {str(ROOT), str(Path.home()), str(cache_folder()), os.environ.get("DIFFNOTES_DATA", "")}
    names = {*(f for f in folders if len(f) > 1), "site-packages", "ipykernel_", ".cache/", "AppData"}
    assert [(i, name) for i, text in output_texts(path) for name in names if name in text] == []


# -- how it reads -----------------------------------------------------------------------------------------------------------


@every_notebook
def test_code_cells_have_at_most_25_lines_and_folded_ones_40(path: Path):
    cells = [
        (i, cell) for i, cell in code_cells(path) if cell.id != "forty-lines"
    ]  # tests/notebooks/test_forty_lines.py
    lengths = {i: (len(cell.source.splitlines()), 40 if folded(cell) else 25) for i, cell in cells}
    assert {i: n for i, (n, most) in lengths.items() if n > most} == {}


@every_notebook
def test_a_folded_cell_is_folded_in_both_editions(path: Path):
    """JupyterLab reads one mark, the HTML edition the other."""
    tags = {i: "hide-input" in cell.metadata.get("tags", ()) for i, cell in code_cells(path)}
    assert tags == {i: folded(cell) for i, cell in code_cells(path)}


@every_notebook
def test_median_code_cell_has_at_most_6_lines(path: Path):
    """Logical lines: a call that is broken over several is one."""
    assert statistics.median(logical_lines(cell.source) for cell in open_cells(path)) <= 6


@every_notebook
def test_at_least_8_words_of_prose_for_a_line_of_code(path: Path):
    words = len(re.findall(r"[^\W\d_][\w'’-]*", prose(path)))
    assert words / sum(lines_of_code(cell.source) for cell in open_cells(path)) >= 8


@every_notebook
def test_opens_with_its_one_title(path: Path):
    number = label(int(path.stem.split("_")[0]))
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith(f"# {number} · ")
    text = re.sub(r"```.*?```", "", "\n\n".join(cell.source for _, cell in markdown_cells(path)), flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


@every_notebook
def test_closes_with_what_you_take_with_you(path: Path):
    headings = [h for _, cell in markdown_cells(path) for h in re.findall(r"^## (.*)$", cell.source, re.MULTILINE)]
    assert headings[-1] == "What you take with you"


@every_notebook
def test_links_to_a_next_chapter(path: Path):
    *_, last = markdown_cells(path)
    following = last[1].source.partition("**Next:**")[2]
    linked = re.findall(r"\]\(([\w-]+\.ipynb)", following)
    assert linked and path.name not in linked


@every_notebook
def test_no_words_that_hide_a_step(path: Path):
    found = re.finditer(rf".{{0,40}}\b({'|'.join(HIDING)})\b.{{0,20}}", prose(path), re.IGNORECASE)
    assert [match.group() for match in found] == []


@every_notebook
def test_nothing_is_left_to_do(path: Path):
    assert [i for i, cell in enumerate(read(path).cells) if re.search(r"\b(TODO|FIXME|XXX)\b", cell.source)] == []


# -- pictures -----------------------------------------------------------------------------------------------------------------


class Images(HTMLParser):
    """Collects the alt texts of the <img> in some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.alts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.alts.append(dict(attrs).get("alt") or "")


@every_notebook
def test_every_picture_has_an_alt_text(path: Path):
    stored = [(i, output.get("data", {}).get("text/html", "")) for i, output in outputs(path)]
    written = [(i, re.sub(r"!\[(.*?)\]\(", r'<img alt="\1">', cell.source)) for i, cell in markdown_cells(path)]
    assert [i for i, html in stored + written if not all(alt.strip() for alt in Images(html).alts)] == []


@every_notebook
def test_pictures_are_shown_as_html(path: Path):
    kinds = [(i, kind) for i, output in outputs(path) for kind in output.get("data", {})]
    assert [(i, kind) for i, kind in kinds if kind.startswith("image/")] == []


# -- equations ----------------------------------------------------------------------------------------------------------------


@every_notebook
def test_equations_are_numbered_without_gaps(path: Path):
    number = label(int(path.stem.split("_")[0]))
    found = [tag for _, tag in tags(path)]
    assert found == [f"{number}.{k}" for k in range(1, len(found) + 1)]


@every_notebook
def test_equations_stand_right_after_their_anchors(path: Path):
    anchored = [tag for _, cell in markdown_cells(path) for tag in NUMBERED.findall(cell.source)]
    assert anchored == [tag for _, tag in tags(path)]


@every_notebook
def test_every_equation_is_checked_below_it(path: Path):
    checked = checked_tags(path)
    assert [tag for i, tag in tags(path) if not any(name == tag and j > i for j, name, _ in checked)] == []


@every_notebook
def test_every_check_has_its_equation(path: Path):
    known = {tag for other in ([path] if path != CLINIC else NOTEBOOKS) for _, tag in tags(other)}
    assert [(i, tag) for i, tag, _ in checked_tags(path) if tag not in known] == []


# -- links --------------------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """What a link into a notebook may point at: <a id="..."> and headings."""
    found: set[str] = set()
    for _, cell in markdown_cells(path):
        found |= set(re.findall(r'id="([^"]+)"', cell.source))
        found |= {heading.strip().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)}
    return found


def links(path: Path) -> list[tuple[int, str]]:
    written = [(i, cell.source) for i, cell in markdown_cells(path)]
    stored = [(i, str(output.get("data", {}).get("text/html", ""))) for i, output in outputs(path)]
    pattern = re.compile(r'\]\(([^)\s]+)\)|href="([^"]+)"')
    found = [(i, a or b) for i, text in written + stored for a, b in pattern.findall(text)]
    return [(i, link) for i, link in found if not re.match(r"https?://|mailto:", link)]


@every_notebook
def test_links_inside_the_book_resolve(path: Path):
    broken = []
    for i, link in links(path):
        name, _, anchor = link.partition("#")
        target = FOLDER / name if name else path
        if not target.exists() or (anchor and target.suffix == ".ipynb" and anchor not in anchors(target)):
            broken.append((i, link))
    assert broken == []


def test_chapters_have_the_names_that_links_are_made_with():
    assert [path.stem for path in NOTEBOOKS] == list(CHAPTERS.values())


# -- the clinic and the index -----------------------------------------------------------------------------------------------


def slip_sections() -> list[tuple[str, int, int]]:
    """The slips of the clinic: (id, first cell, cell after the last). Those of a table have a cell each, in its order."""
    starts = [
        (slip, i + place)
        for i, cell in markdown_cells(CLINIC)
        for place, slip in enumerate(re.findall(r'<a id="([A-Z]\d{2,3})"></a>', cell.source), int("\n|" in cell.source))
    ]
    ends = [i for _, i in starts[1:]] + [len(read(CLINIC).cells)]
    return [(slip, start, end) for (slip, start), end in zip(starts, ends, strict=True)]


def test_the_clinic_refutes_at_least_55_slips():
    assert len({slip for slip, _, _ in slip_sections()}) >= 55


def test_every_slip_is_run_and_fails_and_its_right_form_holds():
    wrong = []
    for slip, start, end in slip_sections():
        cells = [cell for i, cell in code_cells(CLINIC) if start <= i < end]
        run = [name for cell in cells for name, _ in refusals(cell.source)]
        right = [tag for i, tag, _ in checked_tags(CLINIC) if start <= i < end]
        if set(run) != {slip} or not right:
            wrong.append((slip, run, right))
    assert wrong == []


def test_every_wrong_form_is_one_check_or_code_that_breaks():
    found = [block for _, cell in code_cells(CLINIC) for block in refusals(cell.source)]
    checks = {slip: sum(is_check(node) for node in ast.walk(block)) for slip, block in found}
    breaks = {slip for slip, block in found if len(block.items[0].context_expr.args) > 1}  # type: ignore[attr-defined]
    assert {slip: n for slip, n in checks.items() if n != 1 and slip not in breaks} == {}


def test_every_slip_is_pointed_at_where_one_would_make_it():
    pointed = {link.partition("#")[2] for path in NOTEBOOKS if path != CLINIC for _, link in links(path)}
    assert [slip for slip, _, _ in slip_sections() if slip not in pointed] == []


def test_the_index_is_current():
    stored = [cell.source for _, cell in markdown_cells(index.PATH)]
    assert stored == index.cells(), "run: python -m diffnotes.book.press.index, then build the notebook again"


def test_the_index_lists_every_equation_with_its_check():
    found = scan.equations()
    assert len(found) >= 122
    assert [e.tag for e in found if not e.kinds or not index.how(e)] == []


@pytest.mark.parametrize(("source", "tag"), sorted(set(scan.citations())))
def test_equations_that_the_package_cites_are_in_the_book(source: str, tag: str):
    assert tag in {tag for path in NOTEBOOKS for _, tag in tags(path)}


@every_notebook
def test_names_of_code_in_the_stored_outputs_exist(path: Path):
    """A check says which function it compared with; when that is renamed, the stored line must be too."""
    named = {
        (i, name) for i, text in output_texts(path) for name in re.findall(r"computes in <code>([\w.]+)</code>", text)
    }
    lost = [(i, name) for i, name in sorted(named) if not pydoc.locate(f"diffnotes.{name}") and not pydoc.locate(name)]
    assert lost == []
