"""Every notebook, as its reader meets it: opened without running it, and after Run All."""

import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from lab import NOTEBOOKS, Notebook, Server

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", NAMES)
def test_run_all(name: str, open_notebook: Callable[[str], Notebook]) -> None:
    notebook = open_notebook(name)
    notebook.run_all()
    trouble = notebook.trouble()
    notebook.screenshots(name.removesuffix(".ipynb"))
    assert trouble == []


@pytest.mark.parametrize("trusted", [False, True], ids=["as-cloned", "trusted"])
@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs(name: str, trusted: bool, server: Server, open_notebook: Callable[[str], Notebook]) -> None:
    """JupyterLab shows less of a notebook that the reader has not yet trusted: no scripts, and no widgets."""
    path = f"stored-{'trusted' if trusted else 'as-cloned'}-{name}"
    shutil.copy(NOTEBOOKS / name, server.root / path)
    if trusted:
        command = [sys.executable, "-m", "jupyter", "trust", str(server.root / path)]
        subprocess.run(command, env=server.environment, check=True, capture_output=True)
    notebook = open_notebook(path)
    trouble = notebook.trouble()
    if not trusted:
        notebook.screenshots(path.removesuffix(".ipynb"))
    assert trouble == []
