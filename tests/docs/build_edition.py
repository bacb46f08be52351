"""Builds the HTML edition for the tests, with an address of the repository, so that it has all its buttons.

It takes a minute of both cores. So where DIFFNOTES_EDITION names a folder, as in `make test`, it is built there once, and
found there later: tests in two processes, and those in the browser.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/someone/diffnotes"


def build(folder: Path) -> str:
    """Build the site in folder/html; returns what Sphinx had to say: nothing, if all is well."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-E",
        "-W",
        "--keep-going",
        "-j",
        "2",
        "-d",
        str(folder / "doctrees"),
    ]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")],
        env=os.environ | {"DIFFNOTES_REPOSITORY": REPOSITORY, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    return done.stdout + done.stderr


def edition(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the built site, and what Sphinx said while it built it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = Path(os.environ.get("DIFFNOTES_EDITION") or base) / "edition"
    said = folder.with_suffix(".txt")
    with FileLock(f"{folder}.lock"):
        if not said.exists():
            said.write_text(build(folder), encoding="utf-8")
    return folder / "html", said.read_text(encoding="utf-8")
