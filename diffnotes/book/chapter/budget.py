"""How long the notebooks may take, and where a reader's runs are kept."""

import os
from pathlib import Path
from typing import TypeVar

from diffnotes.training.data import expanded

Value = TypeVar("Value")


def budget(full: Value, ci: Value) -> Value:
    """`full` for a reader, `ci` where DIFFNOTES_BUDGET=ci asks for a quick run that only shows that everything works."""
    name = os.environ.get("DIFFNOTES_BUDGET", "full")
    if name not in ("full", "ci"):
        raise ValueError(f'DIFFNOTES_BUDGET must be "full" or "ci", got {name!r}')
    return full if name == "full" else ci


def runs_folder() -> Path:
    """Where the book keeps training runs: the folder in DIFFNOTES_RUNS, whose ~ and variables are expanded, or `runs`
    beside the notebooks."""
    return expanded(os.environ.get("DIFFNOTES_RUNS") or "runs")
