"""What a reader without the repository has: the wheel in an environment of its own, with its dependencies and nothing else.

Nothing is downloaded: the dependencies are those of this environment, whose folder a .pth file names. Such a folder's own .pth
files are not read, so the repository, which is installed here in place, cannot be imported there."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.error
import urllib.request
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

import diffnotes
from diffnotes.book.proof.chapters import CHAPTERS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = [f"{name}.ipynb" for name in CHAPTERS.values()]
WITHIN = "diffnotes/book/notebooks/"
PATIENCE = 120  # seconds, for a server that is starting


def build(root: Path, out: Path, *targets: str) -> None:
    """Build these targets ("wheel", "sdist") of the project in `root`."""
    asked = [word for target in targets for word in ("-t", target)]
    command = [sys.executable, "-m", "hatchling", "build", *asked, "-d", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("built")
    build(ROOT, folder, "sdist", "wheel")
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (path,) = built.glob("*.whl")
    return path


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_the_wheel_has_the_package_the_notebooks_and_the_benchmarks_and_nothing_else(wheel: Path):
    made = {"__pycache__", ".ipynb_checkpoints", ".mypy_cache"}
    files = [path for path in (ROOT / "diffnotes").rglob("*") if path.is_file() and not made & set(path.parts)]
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    expected |= {f"{WITHIN}{name}" for name in NOTEBOOKS}
    pages = [ROOT / "docs" / "benchmarks.md", *(ROOT / "docs" / "benchmarks").iterdir()]
    expected |= {f"diffnotes/book/{path.relative_to(ROOT).as_posix()}" for path in pages}
    about = f"diffnotes-{diffnotes.__version__}.dist-info/"
    expected |= {about + name for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    assert set(zipfile.ZipFile(wheel).namelist()) == expected


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_in_the_wheel_is_the_source_of_that_in_the_repository(wheel: Path, name: str):
    shipped = nbformat.reads(zipfile.ZipFile(wheel).read(WITHIN + name).decode(), as_version=4)
    nbformat.validate(shipped)
    ours = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    kept = [[(c.cell_type, c.id, c.source, c.metadata) for c in notebook.cells] for notebook in (shipped, ours)]
    assert kept[0] == kept[1]
    code = [cell for cell in shipped.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)


def test_the_sdist_builds_the_same_wheel(built: Path, wheel: Path, tmp_path: Path):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # not in 3.11.2
        names = {name.partition("/")[2] for name in archive.getnames()}
    (root,) = tmp_path.iterdir()
    assert {"LICENSE", "README.md", "pyproject.toml", "constraints.txt"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs/_build")) or "runs/" in name]
    build(root, tmp_path / "again", "wheel")
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


# -- where it is installed --------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """An environment with the wheel, and an empty folder to work in."""

    python: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, status: int = 0) -> str:
        """What `python COMMAND` prints, in the reader's folder."""
        done = subprocess.run(
            [self.python, *command], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def reader(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A virtual environment with only the wheel, and the book copied into a folder by it."""
    home = tmp_path_factory.mktemp("reader")
    place, folder = home / "environment", home / "empty"
    folder.mkdir()
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True, env=without_ours())
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    for name in ("share", "etc"):  # JupyterLab's files and those of its widgets, as pip would install them
        there = Path(sys.prefix) / name / "jupyter"
        if there.exists():
            (place / name).mkdir(exist_ok=True)
            (place / name / "jupyter").symlink_to(there)
    own = {"HOME": str(home), "DIFFNOTES_BUDGET": "ci", "DIFFNOTES_OFFLINE": "1", "PYTHONNOUSERSITE": "1"}
    found = Reader(python, folder, without_ours() | own)
    found.run("-m", "diffnotes", "lab", "--copy-only")
    return found


def without_ours() -> dict[str, str]:
    """The environment's variables without those that lead to this environment, to the repository or to a user's files."""
    ours = re.compile(r"PYTHON|VIRTUAL_ENV|JUPYTER|IPYTHON|DIFFNOTES|XDG_")
    return {name: value for name, value in os.environ.items() if not ours.match(name)}


def test_it_is_imported_from_the_wheel_and_the_repository_cannot_be(reader: Reader):
    said = reader.run("-c", "import diffnotes, json, sys; print(json.dumps([diffnotes.__file__, sys.path]))")
    file, path = json.loads(said)
    assert Path(file).is_relative_to(reader.python.parents[1]) and str(ROOT) not in path
    hidden = "import sys; sys.path = [p for p in sys.path if 'environment' not in p]; import diffnotes"
    assert "ModuleNotFoundError: No module named 'diffnotes'" in reader.run("-c", hidden, status=1)


def test_its_data_are_there(reader: Reader):
    code = """
from diffnotes import load_pretrained
from diffnotes.book import index, measured
from diffnotes.training.text import load_prose
for name in ("mnist", "mnist-small"):
    print(sum(p.numel() for p in load_pretrained(name)[0].parameters()) > 10_000)
print(len(measured.measured("ablation")["rows"]) > 5, len(load_prose("test")) > 100)
field, results = index.build_search()
field.value = "1.3"
print("01_forward_process.ipynb#eq-1.3" in results.value and "· proved" in results.value)
"""
    assert reader.run("-c", code).split() == ["True"] * 5


def test_the_help_names_the_commands_of_the_book(reader: Reader):
    said = reader.run("-m", "diffnotes", "--help")
    assert re.search(r"^ +lab +open the book", said, re.M) and re.search(r"^ +export +a chapter", said, re.M)


def test_the_book_is_copied(reader: Reader):
    assert sorted(path.name for path in (reader.folder / "diffnotes-book").glob("*.ipynb")) == NOTEBOOKS
    assert "kept" not in reader.run("-m", "diffnotes", "lab", "--copy-only")


# the first has explorers and weights of the package; the index is read from the notebooks of the package
@pytest.mark.parametrize("name", [CHAPTERS[0], CHAPTERS[92]])
def test_a_chapter_runs_and_becomes_one_page(reader: Reader, name: str):
    said = reader.run("-m", "diffnotes", "export", f"diffnotes-book/{name}.ipynb", "-o", f"{name}.html", "--run")
    assert re.fullmatch(rf"{name}\.html: [\d.]+ MB\n", said)
    page = (reader.folder / f"{name}.html").read_text(encoding="utf-8")
    asked = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)([^"]*)"', page)
    assert asked == [] and len(page) > 2_000_000  # MathJax is in it
    if name == CHAPTERS[0]:
        assert len(re.findall(r'<img alt="[^"]+"[^>]*src="data:image/', page)) >= 3
        assert f"diffnotes</th><td style='text-align:left'>{diffnotes.__version__}" in page.replace('"', "'")


def test_a_chapter_that_was_not_run_is_not_exported(reader: Reader):
    said = reader.run("-m", "diffnotes", "export", f"diffnotes-book/{CHAPTERS[1]}.ipynb", status=1)
    assert "has not been run: run it in JupyterLab and save it, or add --run" in said


# -- JupyterLab -------------------------------------------------------------------------------------------------------


def test_jupyterlab_opens_the_book(reader: Reader):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    address = f"http://127.0.0.1:{port}"

    def ask(path: str, method: str = "GET", authorised: bool = True) -> tuple[int, bytes]:
        headers = {"Authorization": f"token {token}"} if authorised else {}
        request = urllib.request.Request(address + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""

    command = [reader.python, "-m", "diffnotes", "lab", "--no-browser", f"--port={port}"]
    with (
        open(reader.folder / "lab.log", "w") as log,
        subprocess.Popen(
            command, cwd=reader.folder, env=reader.environment | {"JUPYTER_TOKEN": token}, stdout=log, stderr=log
        ) as running,
    ):
        try:
            ends = time.monotonic() + PATIENCE
            while True:
                try:
                    ask("/api")
                    break
                except OSError:
                    said = (reader.folder / "lab.log").read_text()
                    assert running.poll() is None and time.monotonic() < ends, said
                    time.sleep(0.2)
            for page in ("/lab", f"/lab/tree/{NOTEBOOKS[0]}"):
                status, text = ask(f"{page}?token={token}", authorised=False)
                assert status == 200 and b"JupyterLab" in text, page
            assert ask(f"/api/contents/{NOTEBOOKS[0]}", authorised=False)[0] == 403
            status, text = ask(f"/api/contents/{NOTEBOOKS[0]}")
            assert status == 200 and json.loads(text)["content"]["cells"]
            status, text = ask("/lab/api/settings/@jupyterlab/apputils-extension:notification")
            assert status == 200 and json.loads(text)["schema"]["properties"]["fetchNews"]["default"] == "false"
            status, style = ask("/custom/custom.css")
            assert style == (ROOT / "diffnotes" / "book" / "lab" / "custom" / "custom.css").read_bytes()
            assert ask("/api/shutdown", "POST")[0] == 200
            assert running.wait(PATIENCE) == 0
        finally:
            if running.poll() is None:
                running.kill()
