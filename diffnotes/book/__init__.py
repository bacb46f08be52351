"""What only the notebooks use. A chapter types `from diffnotes.book import check, explorers, plots`; each name is loaded when
it is first asked for, so that a chapter without sliders loads no widgets.

proof/      the independent side: checks, sympy's symbols, exact chains with finitely many states
live/       pictures, widgets, and training beside the notebook
explorers/  sliders that move a picture, one file a family
exercises/  the exercises that judge an answer, one file a chapter
press/      how the book is printed: building, scanning, the index, measured numbers
chapter/    what a chapter asks of the machine it runs on: budget, the reader's own model, environment"""

import importlib
from typing import Any

_PLACES = {  # a module, or a module and a name in it
    "check": "proof.check",
    "chain": "proof.chain",
    "symbols": "proof.symbols",
    "plots": "live.plots",
    "Comparison": "live.comparison:Comparison",
    "Dashboard": "live.dashboard:Dashboard",
    "slider": "live.widgets:slider",
    "explorers": "explorers",
    "exercises": "exercises",
    "index": "press.index",
    "measured": "press.measured",
    "portrait": "press.portrait",
    "scan": "press.scan",
    "budget": "chapter.budget:budget",
    "runs_folder": "chapter.budget:runs_folder",
    "reader_model": "chapter.reader:reader_model",
    "show_environment": "chapter.environment:show_environment",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_PLACES))}")
    place, _, member = _PLACES[name].partition(":")
    module = importlib.import_module(f"{__name__}.{place}")
    return getattr(module, member) if member else module


def __dir__() -> list[str]:
    return sorted(__all__)
