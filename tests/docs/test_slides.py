"""The decks of make slides, as they are written. What a browser shows of them: tests/browser/test_slide_decks.py."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs"))
import slides

NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def chapters() -> dict[str, nbformat.NotebookNode]:
    return slides.chapters()


def text_cell(source: str, **about: object) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata={"slideshow": {"slide_type": "slide", **about}})


def test_each_deck_has_slides_for_a_lecture(chapters):
    counted = {name: sum(map(slides.is_slide, notebook.cells)) for name, notebook in chapters.items()}
    assert len(counted) >= 3 and all(12 <= number <= 20 for number in counted.values()), counted


def test_every_equation_and_every_picture_of_a_slide_is_in_its_deck(chapters):
    for notebook in chapters.values():
        cells = [cell for cell in notebook.cells if slides.is_slide(cell)]
        for cell, (slide, _) in zip(cells, slides.slides(notebook), strict=True):
            if cell.cell_type == "markdown" and "show" not in cell.metadata["slideshow"] and slide.startswith("##"):
                tags = slides.TAG.findall(cell.source)
                assert tags and slides.TAG.findall(slide) == tags
                for tex in slides.DISPLAYED.findall(cell.source):
                    if slides.TAG.search(tex):
                        pieces = [piece.strip() for piece in slides.TAG.sub("", tex).split(r"\qquad")]
                        assert all(piece in slide for piece in pieces)
            if cell.cell_type == "code" and not slides.EXERCISE.search(cell.source):
                stored = str(cell.outputs)
                sources = re.findall(r'src="([^"]+)"', slide)
                assert [source in stored for source in sources] == [True] or cell.metadata["slideshow"][
                    "show"
                ] == "code"


def said(cell: nbformat.NotebookNode) -> str:
    """What a reader sees of a cell: its text, and the words of its outputs."""
    outputs = [
        output.get("text", "") + output.get("data", {}).get("text/html", output.get("data", {}).get("text/plain", ""))
        for output in cell.get("outputs", [])
    ]
    alts = re.findall(r'alt="([^"]*)"', "".join(outputs))
    return " ".join([cell.source, *alts, re.sub(r"<[^>]*>", " ", " ".join(outputs))])


def test_a_number_on_a_slide_is_one_of_its_chapter(chapters):
    for name, notebook in chapters.items():
        known = set(NUMBER.findall(" ".join(map(said, notebook.cells))))
        for cell in filter(slides.is_slide, notebook.cells):
            for number in NUMBER.findall(cell.metadata["slideshow"].get("text", "")):
                assert number in known, (name, number)


def test_a_wide_formula_stands_in_rows():
    assert slides.in_rows(r" a=b \tag{1.2} ") == r"a=b \tag{1.2}"
    rows = slides.in_rows(r"a,\qquad\text{that is}\qquad b\underbrace{c\qquad d}_{e},\qquad f \tag{1.2}")
    inner = r"a, \\[0.7em] \text{that is}\quad b\underbrace{c\qquad d}_{e}, \\[0.7em] f"
    assert rows == rf"\begin{{gathered}}{inner}\end{{gathered}} \tag{{1.2}}"


def test_the_speaker_has_the_chapters_words_without_its_formulas_and_links(chapters):
    for notebook in chapters.values():
        for _, notes in slides.slides(notebook):
            assert "$$" not in notes and ".ipynb" not in notes and "<details>" not in notes
        assert sum(len(notes) > 200 for _, notes in slides.slides(notebook)) >= 10


def test_a_choice_shows_its_answer_after_the_question(chapters):
    asked = [
        (slide, notes)
        for notebook in chapters.values()
        for slide, notes in slides.slides(notebook)
        if "## Exercise" in slide
    ]
    assert len(asked) >= 3
    for slide, notes in asked:
        question, _, answer = slide.partition('<div class="fragment">')
        assert all(f"- ({letter})" in question for letter in "abcd") and "✓" not in question
        assert answer.count("✓") == 1 and notes.count("✗") == 3


def test_a_slide_without_a_picture_or_a_text_is_refused():
    code = nbformat.v4.new_code_cell(
        "print(1)", metadata={"slideshow": {"slide_type": "slide", "title": "a", "text": "b"}}
    )
    title = text_cell("# 1 · One: two", text="c")
    with pytest.raises(ValueError, match=r"must have a picture in its stored output, got none in: print\(1\)"):
        list(slides.slides(nbformat.v4.new_notebook(cells=[title, code, text_cell("d")])))
    with pytest.raises(ValueError, match="a slide needs a title, a picture or an equation, and a text"):
        list(
            slides.slides(nbformat.v4.new_notebook(cells=[title, text_cell(r"## 1.1 One" + "\n\n$$ x \\tag{1.1} $$")]))
        )


def test_without_reveal_it_says_what_to_do(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(slides, "REVEAL", tmp_path)
    with pytest.raises(SystemExit, match="npm ci --prefix docs/live"):
        slides.build(tmp_path / "slides")
