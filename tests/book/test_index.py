import re

import pytest
import sympy as sp

from diffnotes.book import check, index, scan
from diffnotes.book.press.scan import Equation
from diffnotes.book.proof.chapters import CHAPTERS, TITLES, address, label, number_of

BAYES = Equation(
    tag="2.2",
    notebook="02_bayes_posterior.ipynb",
    section="5.2 Bayes, with the start given",
    latex=r"q(x_{t-1}|x_t,x_0)=\frac{q(x_t|x_{t-1})}{\|x\|},",
    kinds=["discrete", "definition"],
    shown=[
        "exact on a chain of finitely many states, 27 values",
        "is what the code computes in <code>f</code>: 3 values",
    ],
    code=["process.forward.q_posterior"],
    slips=["A12"],
)


def test_an_equation_is_described_by_its_checks():
    assert index.how(BAYES) == ["exact on a finite chain", "compared with the code"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("proved by sympy, for x_0 real", "proved"),
        ("proved by sympy for the case <em>d = 2</em>, for x_0 real", "proved for d = 2"),
        ("a lemma of it proved by sympy: <em>two loads, crossed</em>", "a lemma of it proved: two loads, crossed"),
        ("a lemma of it holds in 100 random draws: <em>A</em>, off by 1.0", "a lemma of it in random draws: A"),
        ("agrees in numbers for the case <em>t = 1</em>: 3 values", "compared in numbers for t = 1"),
    ],
)
def test_the_index_says_what_was_proved(line, words):
    assert index.how(Equation("1.1", "", "", "", shown=[line])) == [words]


def test_the_opening_counts_whole_proofs_apart():
    shown = {
        "1": ["proved by sympy", "proved by sympy for the case <em>d = 2</em>"],
        "2": ["proved by sympy for the case <em>d = 2</em>", "holds in 100 random draws, off by 1"],
        "3": ["a lemma of it proved by sympy: <em>a</em>", "exact on a chain of finitely many states, 1 value"],
        "4": ["agrees in numbers: 1 value", "is what the code computes in <code>f</code>: 1 value"],
        "5": ["holds in all 3 cases tried, smallest gap 1"],
        "6": ["a lemma of it agrees in numbers: <em>a</em>, 1 value"],
    }
    summary = index.summary_of([Equation(f"1.{k}", "", "", "", shown=lines) for k, lines in shown.items()])
    assert "**6 numbered equations**" in summary and "1 are proved by sympy as they stand" in summary
    assert "of 2 more a special case or a lemma; 1 are verified on a chain" in summary
    assert (
        "1 are compared with the package's code, 1 with a second computation, 1 with random draws, and 1 are" in summary
    )
    assert "Of the other 1, a step is checked in numbers." in summary


def test_the_words_of_a_tick_come_from_the_stored_line(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(check, "display", lambda line: lines.append(line.data))
    check.identity("A.2", sp.Integer(1), 1, case="n < m")
    ((tag, words),) = scan.LINE.findall(lines[0])
    assert tag == "A.2" and words == "proved by sympy for the case <em>n &lt; m</em>"


def test_an_appendix_has_a_letter_for_its_number():
    assert label(4) == "4" and label(90) == "A"
    assert [number_of(tag) for tag in ("4.6", "12.3", "12", "A.3", "A")] == [4, 12, 12, 90, 90]
    assert address("A.3", 90) == "#eq-A.3" and address("A.3", 1) == f"{CHAPTERS[90]}.ipynb#eq-A.3"


@pytest.mark.parametrize(
    "line",
    [
        "proved by sympy, for x_0 real",
        "exact on a chain of finitely many states, 1 value",
        "holds to rounding on a chain of finitely many states, 1 value",
        "is what the code computes: 1 value, largest difference 0",
        "agrees in numbers: 1 value, largest difference 0",
        "holds in 100 random draws, off by 1.0 standard errors at most",
        "holds in all 3 cases tried, smallest gap 1",
        "holds in the one case tried, smallest gap 1",
    ],
)
def test_every_line_that_a_check_shows_has_its_words(line):
    assert len(index.how(Equation("A.1", "", "", "", shown=[line]))) == 1


def test_bars_in_a_formula_do_not_split_the_table(monkeypatch):
    monkeypatch.setattr(index, "read", lambda _: type("N", (), {"cells": [type("C", (), {"source": "# 5 · Bayes"})]}))
    row = index.table(5, [BAYES]).splitlines()[-1]
    assert row.count("|") == 3
    assert r"q(x_{t-1}\vert x_t,x_0)" in row and r"\Vert x\Vert }" in row
    assert "[(2.2)](02_bayes_posterior.ipynb#eq-2.2)" in row and "[A12](91_errata_clinic.ipynb#A12)" in row


def test_a_line_of_the_index_is_read_as_it_was_written():
    (line,) = index.lines(f"## 2 · Bayes\n\n| | |\n|---|---|\n{index.row(BAYES)}\n")
    assert (line.tag, line.latex, line.section) == ("2.2", BAYES.latex.rstrip(","), "Bayes, with the start given")
    assert line.ways == "exact on a finite chain; compared with the code"
    assert line.code == ["forward.q_posterior"]
    bare = Equation("1.2", "", "", "x", kinds=["identity"], shown=["proved by sympy"])
    (line,) = index.lines(index.row(bare))
    assert (line.ways, line.code) == ("proved", [])


def test_the_search_knows_every_equation_of_the_book():
    read = [line for cell in scan.read(index.PATH).cells for line in index.lines(cell.source)]
    found = scan.equations()
    assert [line.tag for line in read] == [e.tag for e in sorted(found, key=lambda e: number_of(e.tag))]
    ways = {e.tag: "; ".join(index.how(e)).replace("|", "&#124;") for e in found}
    assert [line.ways for line in read] == [ways[line.tag] for line in read]


def test_the_search_finds_by_number_section_formula_and_code():
    found = index.lines(index.row(BAYES))
    for wanted in ("2.2", "bayes start", "frac", "q(x_t|x_{t-1})", "q_posterior", "chain code"):
        assert "(2.2)</a>" in index.matches(found, wanted), wanted
    assert "No equation has" in index.matches(found, "guidance")
    assert index.matches(found, " ") == "1 equation."


def test_the_search_shows_only_the_first_ones():
    assert "and 3 more" in index.matches(index.lines(index.row(BAYES)) * 15, "bayes")


def test_the_field_searches_while_one_types():
    field, results = index.build_search()
    field.value = "1.6"
    assert "01_forward_process.ipynb#eq-1.6" in results.value


def test_addresses_lead_to_other_notebooks_only_from_elsewhere():
    assert address("1.6") == address("1.6", 1) == "#eq-1.6"
    assert address("1.6", 91) == f"{CHAPTERS[1]}.ipynb#eq-1.6"


def test_the_scan_finds_checks_lines_and_code():
    (found,) = (e for e in scan.equations() if e.tag == "1.6")
    assert found.notebook == "01_forward_process.ipynb" and found.section.startswith("1.4 ")
    assert len(found.kinds) >= 2 and len(found.shown) >= len(found.kinds)
    assert "process.forward.q_sample" in found.code and "process.forward" not in found.code


def test_wrong_forms_are_not_counted_as_checks():
    source = 'with check.refuses("A22"):\n    check.numeric("2.1", a, b)\ncheck.numeric("2.1", a, c)'
    assert len(scan.check_calls(source)) == 1
    assert [slip for slip, _ in scan.refusals(source)] == ["A22"]


def test_citations_are_found_in_docstrings_of_functions_and_methods():
    cited = scan.citations()
    assert ("process.forward.q_sample", "1.6") in cited
    assert ("process.schedules.Schedule.snr", "1.12") in cited
    assert ("training.ema.EMA", "6.3") in cited
    assert ("process.forward", "1.1") in cited


def test_the_titles_are_those_of_the_books_table():
    cells = scan.read(scan.FOLDER / f"{CHAPTERS[0]}.ipynb").cells
    table = "".join(cell.source for cell in cells if "| chapter |" in cell.source)
    rows = re.findall(r"^\| (\w+) \| \[([^\]]+)\]\(([^)]+)\.ipynb\)", table, re.M)
    chapters = [number for number in CHAPTERS if number]
    assert rows == [(label(number), TITLES[number], CHAPTERS[number]) for number in chapters]
