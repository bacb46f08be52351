"""Every number of a chapter, section, equation, exercise or slip that is cited, anywhere, is one that the book has."""

import re
from pathlib import Path

import pytest
from book_files import FOLDER, NOTEBOOKS, code_cells, markdown_cells, read
from references import (
    Text,
    askew,
    book,
    cited,
    exercises,
    file_texts,
    headings,
    label_of,
    links,
    lost,
    neighbours,
    notebook_texts,
    plain,
    written,
)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
CHAPTERS = [path for path in NOTEBOOKS if path.stem[0] != "9"]
PART_ONE = [path for path in CHAPTERS if 1 <= int(path.stem[:2]) <= 9]


def said(problems: list[str]) -> str:
    return "\n".join(problems)


# -- what is cited exists -------------------------------------------------------------------------------------------------


@every_notebook
def test_what_a_notebook_cites_exists(path: Path):
    problems = lost(notebook_texts(path))
    assert not problems, said(problems)


def test_what_the_other_files_cite_exists():
    problems = lost(file_texts())
    assert not problems, said(problems)


@every_notebook
def test_links_lead_to_the_number_that_they_show(path: Path):
    problems = askew(notebook_texts(path))
    assert not problems, said(problems)


def test_links_of_the_other_files_lead_to_the_number_that_they_show():
    problems = askew(file_texts())
    assert not problems, said(problems)


def test_the_scan_sees_every_kind_of_citation():
    found = [kind for path in NOTEBOOKS for text in notebook_texts(path) for kind, _, _ in cited(text.words)]
    assert {kind for kind in book().known if kind not in ("module of exercises",)} <= set(found)
    assert found.count("equation") > 1000 and found.count("chapter") > 100 and found.count("section") > 100
    assert "module of exercises" in {kind for text in file_texts() for kind, _, _ in cited(text.words)}


# -- the order of the chapters --------------------------------------------------------------------------------------------


@every_notebook
def test_the_next_and_the_last_chapter_are_linked(path: Path):
    texts = [Text(f"{path.name}, cell {i}", cell.source, path) for i, cell in markdown_cells(path)]
    problems = [problem for text in texts for problem in neighbours(text)]
    assert not problems, said(problems)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_next_leads_to_the_chapter_that_follows(path: Path):
    *_, (i, last) = markdown_cells(path)
    words = last.source.partition("**Next:**")[2]
    targets = [target for _, target, _ in links(Text(f"{path.name}, cell {i}", words, path))]
    later = NOTEBOOKS[NOTEBOOKS.index(path) + 1 :]
    if path == CHAPTERS[-1]:
        assert set(targets) & set(later), f"{path.name}: Next should lead to an appendix"
    else:
        assert targets[:1] == later[:1], f"{path.name}: Next leads to {[t.name for t in targets]}, not {later[0].name}"


@pytest.mark.parametrize("path", PART_ONE, ids=lambda path: path.stem)
def test_part_one_needs_only_what_stands_before_it(path: Path):
    needs = re.search(r"\*\*You need\*\*.*?(?=\n\n|\Z)", read(path).cells[0].source, re.DOTALL)
    assert needs, f"{path.name}: the first cell should say what **You need**"
    text = Text(f"{path.name}, cell 0", needs.group(), path)
    kinds = ("chapter", "section", "equation", "exercise")
    named = {number.split(".")[0] for kind, number, _ in cited(text.words) if kind in kinds}
    named |= {label_of(target) for _, target, _ in links(text)}
    own = int(label_of(path))
    late = sorted(label for label in named if label.isdigit() and int(label) > own)
    assert not late, f"{path.name}, cell 0: 'You need' cites what comes later, of chapters {', '.join(late)}"


# -- a notebook's own numbers ---------------------------------------------------------------------------------------------


def in_order(path: Path, count: int) -> list[str]:
    return [f"{label_of(path)}.{k}" for k in range(1, count + 1)]


@every_notebook
def test_the_title_has_the_number_of_the_file_or_a_letter(path: Path):
    label, number = label_of(path), int(path.stem[:2])
    assert label == str(number) or (label.isalpha() and number >= 90), f"{path.name} calls itself {label}"


@every_notebook
def test_sections_have_the_chapters_number_in_order(path: Path):
    numbered = [heading.split()[0] for heading in headings(path) if re.match(r"[A-Z\d]+\.\d+ ", heading)]
    assert numbered == in_order(path, len(numbered)), f"{path.name}: sections {', '.join(numbered)}"


@every_notebook
def test_exercises_have_the_chapters_number_in_order(path: Path):
    found = exercises(path)
    assert found == in_order(path, len(found)), f"{path.name}: exercises {', '.join(found)}"


@every_notebook
def test_answers_are_checked_as_the_exercises_of_the_chapter(path: Path):
    keys = [key for _, cell in code_cells(path) for key in re.findall(r'exercises\.check\("([^"]+)"', cell.source)]
    stems = {path.stem[:2], label_of(path)}
    answered = [key.partition(".") for key in keys]
    assert [f"{label_of(path)}.{k}" for _, _, k in answered] == exercises(path), f"{path.name}: checked are {keys}"
    assert {stem for stem, _, _ in answered} <= stems, f"{path.name}: checked are {keys}"


# -- the scan can fail ----------------------------------------------------------------------------------------------------

SMALL = {
    "chapter": {"0", "4", "9", "10", "A"},
    "section": {"4.1", "4.2", "A.3"},
    "exercise": {"4.1", "4.2"},
    "equation": {"4.6", "4.8", "A.1"},
    "slip": {"A22"},
    "exercise key": {"04.1"},
    "notebook": {"04_forward_process"},
    "module of exercises": {"04"},
}
WRONG = [
    ("as chapter 14 shows", "chapter 14"),
    ("as chapter fourteen shows", "chapter 14"),
    ("Chapters 4, 9 and 11 do", "chapter 11"),
    ("chapters 4-12", "chapter 12"),
    ("see chapters nine and eleven", "chapter 11"),
    ("a line\nof chapter\n5, broken", "chapter 5"),
    ("> quoted in chapter\n> 5 too", "chapter 5"),
    ("**chapter 5**", "chapter 5"),
    ("[chapter 5](04_forward_process.ipynb)", "chapter 5"),
    ("in appendix B", "chapter B"),
    ("in section 4.99", "section 4.99"),
    ("sections 4.1, 4.2 and 4.3", "section 4.3"),
    ("sections 4.1-4.5", "section 4.5"),
    ("section A.9", "section A.9"),
    ("[there](04_forward_process.ipynb#4.7-Somewhere)", "section 4.7"),
    ("exercise 4.9 asks", "exercise 4.9"),
    ("exercises 4.1 to 4.3", "exercise 4.3"),
    ("by (4.99)", "equation 4.99"),
    ("by [(4.99)](04_forward_process.ipynb#eq-4.6)", "equation 4.99"),
    ("[(4.6)](04_forward_process.ipynb#eq-4.99)", "equation 4.99"),
    ("(4.6) and (4.9)", "equation 4.9"),
    ("(A.2) gives", "equation A.2"),
    ("book, eq. 4.7", "equation 4.7"),
    ("book, eqs. 4.6, 4.8 and 4.9", "equation 4.9"),
    ("equation (4.7)", "equation 4.7"),
    ("$$ a = b \\quad\\text{by (4.7)} \\tag{4.6} $$", "equation 4.7"),
    ('run `check.identity("4.7", ...)`', "equation 4.7"),
    ("the slip A99", "slip A99"),
    ("[clinic](90_errata_clinic.ipynb#P77)", "slip P77"),
    ('exercises.check("04.7", answer)', "exercise key 04.7"),
    ("notebooks/05_forward_process.ipynb", "notebook 05_forward_process"),
    ("exercises/chapter_07.py", "module of exercises 07"),
]
RIGHT = [
    "chapters 4, 9 and 10, appendix A, sections 4.1 and 4.2, exercise 4.1, (4.6) and (A.1), A22, chapter nine",
    "a variance of (0.5), then (2.05), then f(1.5) and $\\mathcal N(1.2)$, and 4.99 seconds",
    "In this chapter one meets two of the three; every chapter four pages long",
    "Ho et al. 2020, appendix B; Dhariwal and Nichol (2021, section 3.7); Ho et al., section 3.9",
    "chapter 9 90 per cent of 2.5, chapters 4 and 9, 2.5 minutes each",
    'colour "#A99" and <a href="https://example.org/chapter-of-A">links</a>',
]


def text_of(words: str) -> Text:
    return Text("here", words, FOLDER / "none.ipynb")


@pytest.mark.parametrize(("words", "what"), WRONG)
def test_a_wrong_number_is_found(words: str, what: str):
    problems = [p for p in lost([text_of(words)], SMALL) if f"no {what} in " in p]
    assert len(problems) == 1, said(lost([text_of(words)], SMALL))


@pytest.mark.parametrize("words", RIGHT)
def test_what_is_right_or_no_citation_is_left_alone(words: str):
    assert lost([text_of(words)], SMALL) == []


def test_comments_and_strings_are_read_and_code_is_not():
    source = 'def f(x):\n    """Book, eq. 4.7."""\n    return g(4.9)  # as in (4.99)\n'
    found = {(kind, number) for kind, number, _ in cited(written(source))}
    assert found == {("equation", "4.7"), ("equation", "4.99")}


def test_pictures_are_not_read():
    assert "A22" not in plain('<img src="data:image/png;base64,A22/chapter+A22==" alt="a digit">')


def test_a_link_to_another_number_is_found():
    first, second = CHAPTERS[1:3]
    tag, other = [
        next(t for t in sorted(book().known["equation"]) if t.startswith(f"{label_of(p)}.")) for p in CHAPTERS[1:3]
    ]
    section = next(heading for heading in headings(first) if heading.startswith(f"{label_of(first)}.2 "))
    anchor = section.replace(" ", "-")
    wrong = [
        f"[chapter {label_of(second)}]({first.name})",
        f"[({other})]({first.name}#eq-{tag})",
        f"[({tag})]({first.name})",
        f"[({tag})]({second.name}#eq-{tag})",
        f"[section {label_of(first)}.1]({first.name}#{anchor})",
        f"[exercise {label_of(second)}.1]({first.name})",
        f"[nowhere]({first.name}#nowhere)",
        f"| {label_of(second)} | [some title]({first.name}) |",
        f'<a href="{first.name}#eq-{tag}">({other})</a>',
    ]
    assert [words for words in wrong if not askew([text_of(words)])] == []
    right = [
        f"[chapter {label_of(first)}]({first.name})",
        f"[({tag})]({first.name}#eq-{tag})",
        f"[section {label_of(first)}.2]({first.name}#{anchor})",
        f"| {label_of(first)} | [some title]({first.name}) |",
        "[elsewhere](https://example.org/01_other.ipynb)",
    ]
    assert [problem for words in right for problem in askew([text_of(words)])] == []


def test_a_next_chapter_that_is_another_is_found():
    before, here, after = CHAPTERS[1:4]
    for words in ("as the next chapter says", f"[the next chapter]({before.name})", "the chapter before had it"):
        assert len(neighbours(Text("here", words, here))) == 1, words
    for words in (
        f"[the next chapter]({after.name})",
        f"[the last chapter]({before.name}#x)",
        "the last chapter of all",
    ):
        assert neighbours(Text("here", words, here)) == [], words
