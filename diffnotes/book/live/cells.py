"""Which cell is running, and the end of the widgets that its last run has shown.

A widget has a connection to the page (a comm), and so has each of its parts: its layout, its style, its children. IPython
keeps all of them, and the pictures in them, until they are closed. So when a cell has run again, what it showed before is
closed. JupyterLab, Notebook 7 and VS Code say which cell they run; where no one does (nbconvert, nbval, plain Python)
nothing is ever closed.
"""

import gc
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython import get_ipython

_shown: dict[str, list[widgets.Widget]] = {}  # by cell: what its last run has shown
_running: dict[str, list[widgets.Widget]] = {}  # by cell: what the run that is not over yet has shown
_listening: list[Any] = []  # the shells that tell when a cell has run


def cell_id() -> str | None:
    """The name of the cell that is running, if there is one. Only a page with a reader gives one."""
    parent: Any = getattr(get_ipython(), "parent_header", None) or {}
    return parent.get("metadata", {}).get("cellId")


@cache
def is_converted() -> bool:
    """Whether nbconvert has started this kernel. Then nobody will move a slider: a page that is read offline shows nothing of
    a widget, and if it has one beside a picture, it prefers the widget."""
    import psutil  # ipykernel needs it too

    try:
        words = psutil.Process(os.getppid()).cmdline()[:3]
    except psutil.Error:
        return False
    return words[1:] == ["-m", "nbconvert"] or any(
        Path(word).name.startswith("jupyter-nbconvert") for word in words[:2]
    )


def remember(widget: widgets.Widget) -> None:
    """Note that the running cell shows this widget: it will be closed when the cell has run once more without it."""
    cell, shell = cell_id(), get_ipython()
    if cell is None or shell is None:
        return
    if shell not in _listening:
        shell.events.register("post_run_cell", _after_a_cell)
        _listening.append(shell)
    _running.setdefault(cell, []).append(widget)


def parts(roots: Iterable[widgets.Widget]) -> list[widgets.Widget]:
    """The widgets, and all that they are made of: children, layouts, styles; each once, parts after the whole."""
    found: dict[widgets.Widget, None] = {}
    waiting: list[Any] = list(roots)
    while waiting:
        value = waiting.pop()
        if isinstance(value, widgets.Widget):
            if value not in found:
                found[value] = None
                waiting += [value._trait_values.get(key) for key in value.keys]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return list(found)


def open_again(widget: widgets.Widget) -> None:
    """Connect a widget that was closed, and its parts, to the page once more."""
    for part in reversed(parts([widget])):
        part.open()  # nothing, if it is open


def close(roots: Iterable[widgets.Widget], kept: Iterable[widgets.Widget] = ()) -> bool:
    """Close the widgets and all that they are made of, but for the parts of `kept`; whether there was anything to close."""
    still_shown = set(parts(kept))
    closed = [part for part in parts(roots) if part not in still_shown and part.comm is not None]
    for part in closed:
        part.close()
    return bool(closed)


def _after_a_cell(result: Any) -> None:
    """Close what the cell's run before this one has shown, unless this run or another cell has shown it too."""
    cell = getattr(getattr(result, "info", None), "cell_id", None)
    if cell is None or not (cell in _shown or cell in _running):
        return
    before, _shown[cell] = _shown.get(cell, []), _running.pop(cell, [])
    shown = [widget for several in (*_shown.values(), *_running.values()) for widget in several]
    if close(before, kept=shown):
        before.clear()
        gc.collect()  # an explorer and its widgets hold each other; their pictures would stay for a long time
