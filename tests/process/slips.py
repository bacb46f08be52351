"""A slip put into the source of a module, and which of its checks refute it."""

import inspect
from collections.abc import Callable
from types import ModuleType


def slipped(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """The module with `wrong` in the one place where its source has `right`."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, right
    other = ModuleType("slipped")
    exec(compile(source.replace(right, wrong), "slipped", "exec"), other.__dict__)
    return other


def refuted_by(module: ModuleType, checks: dict[str, Callable[[ModuleType], None]]) -> set[str]:
    """The names of the checks that raise an AssertionError for this module."""
    found = set()
    for name, check in checks.items():
        try:
            check(module)
        except AssertionError:
            found.add(name)
    return found
