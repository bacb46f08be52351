"""Builds the HTML edition for the tests, with an address of the repository, so that it has all its buttons."""

import os
import subprocess
import sys
from pathlib import Path

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
