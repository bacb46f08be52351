"""Run notebooks at the full budget and store their outputs, as readers without a kernel will see them: make book.

Each notebook runs in a folder of its own, so that it finds no runs of an earlier chapter and no solved exercises: what is
stored comes from the model that ships with the package. Real MNIST is needed. A widget's view is taken out where a picture
stands behind it, and the notebook's metadata record what it was run with.
"""

import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import jupyterlab
import nbformat
import torch

from diffnotes.book.press.export import execute, without_widgets
from diffnotes.training.data import load_images


def build(path: Path) -> float:
    """Execute one notebook in place; returns the seconds it took. An error in a cell leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, folder)
        os.environ["DIFFNOTES_PROGRESS"] = folder  # a reader who has solved nothing yet
        execute(notebook, Path(folder), timeout=1200)
    seconds = time.monotonic() - started
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    without_widgets(notebook)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["diffnotes"] = {
        "budget": "full",
        "data": load_images("mnist", "test").source.split(", test")[0],
        "seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "jupyterlab": jupyterlab.__version__,
        },
    }
    nbformat.write(notebook, path)
    return seconds


def main(paths: list[str]) -> None:
    """Build all the notebooks named."""
    if os.environ.get("DIFFNOTES_BUDGET", "full") != "full":
        raise SystemExit("the stored outputs come from the full budget: unset DIFFNOTES_BUDGET")
    os.environ.pop("DIFFNOTES_RUNS", None)
    print(load_images("mnist", "test"))  # DataUnavailable if MNIST cannot be had: nothing is stored from other images
    for path in paths:
        print(f"{path}: {build(Path(path)):.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
