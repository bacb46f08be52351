"""The book in a folder of the reader's own: python -m diffnotes lab.

A reader's work is never written over. A chapter whose cells or outputs are no longer as they were copied stays as it is;
when a newer edition of the package has another text of it, that text is put beside it, under a name with the version."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import diffnotes
from diffnotes.book.press.scan import BOOK, FOLDER, notebooks

RECORD = ".diffnotes.json"  # in the reader's folder: the digests of the files as they were copied
PAGE = Path("docs") / "benchmarks.md"  # the one page outside the notebooks that a chapter links to, and its folder
PICTURES = Path("docs") / "benchmarks"


@dataclass
class Copied:
    """What became of the files, by their names in the folder."""

    new: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)  # from an older edition; the reader had not changed them
    kept: list[str] = field(default_factory=list)  # the reader has run or edited them
    beside: list[str] = field(default_factory=list)  # the newer edition of files that were kept


def copy_book(folder: Path) -> Copied:
    """Copy the notebooks, and the page they link to, into `folder`. The repository's own notebooks/ is left as it is.
    ValueError if the folder has other files of these names and was not made by this command."""
    copied = Copied()
    if folder.resolve() == FOLDER.resolve():
        return copied
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"FOLDER must be a folder, got the file {folder}")
    record = _recorded(folder)
    book = contents()
    for name, content in book.items():
        if not record and _digest_of(folder, name) not in (None, digest(name, content)):
            raise ValueError(f"{folder} has a {name} of another origin: name another folder for the book")
    for name, content in book.items():
        path, edition, there = folder / name, digest(name, content), _digest_of(folder, name)
        if there is None:
            _write(path, content)
            copied.new.append(name)
        elif there not in (edition, record.get(name)):
            copied.kept.append(name)
            if record.get(name) != edition:
                other = _free_name(path)
                _write(other, content)
                copied.beside.append(other.relative_to(folder).as_posix())
        elif there != edition:
            _write(path, content)
            copied.updated.append(name)
        record[name] = edition
    _write(folder / RECORD, json.dumps(record, indent=1).encode())
    return copied


def contents() -> dict[str, bytes]:
    """The files of the reader's folder: the notebooks at its top, docs/ below it."""
    files = {path.name: path.read_bytes().replace(b"](../docs/", b"](docs/") for path in notebooks()}
    for path in [BOOK / PAGE, *sorted((BOOK / PICTURES).iterdir())]:
        files[path.relative_to(BOOK).as_posix()] = path.read_bytes()
    return files


def digest(name: str, content: bytes) -> str:
    """SHA-256 of a file; of a notebook, that of its cells and outputs, so that opening and saving it changes nothing."""
    if name.endswith(".ipynb"):
        try:
            cells = json.loads(content)["cells"]
            parts = [(cell["cell_type"], "".join(cell["source"]), cell.get("outputs")) for cell in cells]
            content = json.dumps(parts, sort_keys=True).encode()
        except (ValueError, KeyError, TypeError):
            pass  # whatever the reader has made of it, it is another file
    return hashlib.sha256(content).hexdigest()


def _digest_of(folder: Path, name: str) -> str | None:
    """The digest of a file in the folder; None if it is not there."""
    return digest(name, (folder / name).read_bytes()) if (folder / name).exists() else None


def _recorded(folder: Path) -> dict[str, str]:
    """The digests of the files as they were copied; none, if the record is not there or not readable."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _free_name(path: Path) -> Path:
    """A name for the newer edition beside `path`: 01_forward_process-0.2.0.ipynb, with a further number if that is taken."""
    number, other = 1, path.with_name(f"{path.stem}-{diffnotes.__version__}{path.suffix}")
    while other.exists():
        number += 1
        other = path.with_name(f"{path.stem}-{diffnotes.__version__}-{number}{path.suffix}")
    return other


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
