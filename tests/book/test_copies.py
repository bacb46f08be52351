"""The book copied into a reader's folder: what is theirs stays theirs."""

import json
import re
from pathlib import Path

import nbformat
import pytest

import diffnotes
from diffnotes.__main__ import main
from diffnotes.book.lab import copies
from diffnotes.book.lab.copies import copy_book
from diffnotes.book.press.scan import FOLDER
from diffnotes.book.proof.chapters import CHAPTERS

ONE, TWO = "01_forward_process.ipynb", "02_bayes_posterior.ipynb"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A folder with the book in it."""
    copy_book(tmp_path / "book")
    return tmp_path / "book"


def edit(path: Path, words: str = "My own words.") -> bytes:
    """Add a cell, as a reader would; what the file is then."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell(words))
    nbformat.write(notebook, path)
    return path.read_bytes()


def new_edition(monkeypatch, *names: str, words: str = "A sentence of the new edition.", version: str = "9.9") -> None:
    """Let the package have another text of these chapters, and another version."""
    before = copies.contents()

    def contents() -> dict[str, bytes]:
        changed = dict(before)
        for name in names:
            notebook = nbformat.reads(before[name].decode(), as_version=4)
            notebook.cells[0].source += words
            changed[name] = nbformat.writes(notebook).encode()
        return changed

    monkeypatch.setattr(copies, "contents", contents)
    monkeypatch.setattr(diffnotes, "__version__", version)


def test_every_chapter_is_there(book: Path):
    assert sorted(path.name for path in book.glob("*.ipynb")) == [f"{name}.ipynb" for name in CHAPTERS.values()]


def test_every_link_leads_to_a_file_in_the_folder(book: Path):
    missing = []
    for page in [*book.rglob("*.ipynb"), *book.rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)=\\?"([^"\\]*)', text)
        own = {link.partition("#")[0] for link in links if not re.match(r"\w+:|\{|//", link)}
        missing += [(page.name, link) for link in own if link and not (page.parent / link).exists()]
    assert missing == []
    assert "](docs/benchmarks.md)" in (book / "06_training.ipynb").read_text(encoding="utf-8")


def test_a_second_time_nothing_changes(book: Path):
    before = {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}
    assert copy_book(book) == copies.Copied()
    assert {path: path.read_bytes() for path in book.rglob("*") if path.is_file()} == before


def test_an_edited_chapter_is_kept(book: Path):
    theirs = edit(book / ONE)
    (book / TWO).unlink()
    assert copy_book(book) == copies.Copied(new=[TWO], kept=[ONE])
    assert (book / ONE).read_bytes() == theirs and (book / TWO).exists()


def test_a_chapter_that_was_run_is_kept(book: Path, monkeypatch):
    notebook = nbformat.read(book / ONE, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.outputs = [nbformat.v4.new_output("stream", text="what it printed")]
    nbformat.write(notebook, book / ONE)
    new_edition(monkeypatch, ONE)
    assert copy_book(book).kept == [ONE] and "what it printed" in (book / ONE).read_text(encoding="utf-8")


def test_a_newer_edition_replaces_what_the_reader_has_not_changed(book: Path, monkeypatch):
    notebook = nbformat.read(book / TWO, as_version=4)
    notebook.metadata["toc-autonumbering"] = True  # JupyterLab adds such things when a notebook is opened and saved
    nbformat.write(notebook, book / TWO)
    new_edition(monkeypatch, ONE, TWO)
    assert copy_book(book) == copies.Copied(updated=[ONE, TWO])
    assert (book / ONE).read_bytes() == copies.contents()[ONE] and len(list(book.glob("*.ipynb"))) == len(CHAPTERS)


def test_a_newer_edition_of_an_edited_chapter_is_put_beside_it_once(book: Path, monkeypatch):
    theirs = edit(book / ONE)
    new_edition(monkeypatch, ONE)
    beside = "01_forward_process-9.9.ipynb"
    assert copy_book(book) == copies.Copied(kept=[ONE], beside=[beside])
    assert (book / ONE).read_bytes() == theirs and (book / beside).read_bytes() == copies.contents()[ONE]
    assert copy_book(book) == copies.Copied(kept=[ONE])
    also_theirs = edit(book / beside)
    new_edition(monkeypatch, ONE, words="And one more.")
    assert copy_book(book).beside == ["01_forward_process-9.9-2.ipynb"]
    assert (book / beside).read_bytes() == also_theirs and (book / ONE).read_bytes() == theirs


@pytest.mark.parametrize("content", ["", "no notebook any more", "[]"])
def test_a_chapter_that_is_no_notebook_any_more_is_the_readers_too(book: Path, content: str):
    (book / ONE).write_text(content)
    assert copy_book(book).kept == [ONE] and (book / ONE).read_text() == content


def test_a_folder_with_files_of_another_origin_is_refused(tmp_path: Path, capsys):
    (tmp_path / ONE).write_text("from a course of mine")
    assert main(["lab", str(tmp_path), "--copy-only"]) == 1
    said = f"diffnotes lab: {tmp_path} has a {ONE} of another origin: name another folder for the book\n"
    assert capsys.readouterr().err == said
    assert [path.name for path in tmp_path.iterdir()] == [ONE] and (
        tmp_path / ONE
    ).read_text() == "from a course of mine"


def test_a_file_of_the_readers_that_has_the_name_of_a_new_chapter_is_kept(book: Path, monkeypatch):
    (book / "added.ipynb").write_text("theirs")
    before = copies.contents()
    monkeypatch.setattr(copies, "contents", lambda: before | {"added.ipynb": before[ONE]})
    beside = f"added-{diffnotes.__version__}.ipynb"
    assert copy_book(book) == copies.Copied(kept=["added.ipynb"], beside=[beside])
    assert (book / "added.ipynb").read_text() == "theirs" and (book / beside).read_bytes() == before[ONE]


def test_without_its_record_a_folder_is_recorded_again_if_nothing_would_be_lost(book: Path):
    (book / copies.RECORD).write_text("damaged")
    assert copy_book(book) == copies.Copied()
    assert set(json.loads((book / copies.RECORD).read_text())) == set(copies.contents())
    (book / copies.RECORD).unlink()
    edit(book / ONE)
    with pytest.raises(ValueError, match=f"has a {ONE} of another origin"):
        copy_book(book)


def test_the_repositorys_own_notebooks_are_left_as_they_are():
    before = {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()}
    assert copy_book(FOLDER) == copies.Copied()
    assert {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()} == before


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_kept(book: Path, monkeypatch, capsys):
    edit(book / ONE)
    new_edition(monkeypatch, ONE, TWO)
    assert main(["lab", str(book), "--copy-only"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"The book is in {book}.",
        f"brought up to this edition: {TWO}",
        f"kept as you have them: {ONE}",
        "their text in this edition: 01_forward_process-9.9.ipynb",
    ]


def test_the_command_opens_the_first_chapter_in_the_folder(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    started = []
    monkeypatch.setattr("diffnotes.book.lab.start", lambda *more, folder: started.append((more, folder)) or 0)
    assert main(["lab"]) == 0 and main(["lab", "mine", "--no-browser", "--port", "9999"]) == 0
    first = f"{CHAPTERS[0]}.ipynb"
    assert started == [((first,), Path("diffnotes-book")), ((first, "--no-browser", "--port=9999"), Path("mine"))]
    assert (tmp_path / "diffnotes-book" / first).exists() and (tmp_path / "mine" / first).exists()
    monkeypatch.setattr("diffnotes.book.lab.start", lambda *more, folder: 3)
    assert main(["lab"]) == 1
    assert capsys.readouterr().err == "diffnotes lab: JupyterLab ended with status 3\n"


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, capsys):
    (tmp_path / "book").touch()
    assert main(["lab", str(tmp_path / "book"), "--copy-only"]) == 1
    assert capsys.readouterr().err == f"diffnotes lab: FOLDER must be a folder, got the file {tmp_path / 'book'}\n"
