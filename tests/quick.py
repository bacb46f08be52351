"""make quick: lint, the tests of what changed since main, and the notebooks touched. It prints what it chose and why, and
what it leaves to make test.

The tests of a changed module are its mirror (diffnotes/x/y.py: tests/x/test_y.py), then those that import it, then those that
import what imports it; of the latter two at most MOST files, the nearest first, and among equals those that import least.
A file that is no Python has the tests that name it. All is read from the sources, so a fresh clone needs no record of an
earlier run, as pytest-testmon would.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from diffnotes import book

ROOT = Path(__file__).resolve().parents[1]
MOST = 10  # test files chosen by their imports
SLOW = {"tests/browser": "make browser", "tests/docs": "make unit"}  # rooms that need a browser, or the pages built
RULES = "tests/notebooks"
NBVAL = ["-p", "no:cacheprovider", "--dist", "loadfile", "--nbval-lax", "--nbval-cell-timeout=600"]


@dataclass
class Choice:
    """Test files, each with the reason; notebooks to be run; and what is not run, with the command that would."""

    tests: dict[str, str] = field(default_factory=dict)
    notebooks: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add(self, test: str, why: str) -> None:
        """A test file, or a line on what runs it if that takes minutes."""
        room = next((room for room in SLOW if test.startswith(room + "/")), None)
        if room is None:
            self.tests.setdefault(test, why)
        elif (line := f"{room}: {SLOW[room]}") not in self.left:
            self.left.append(line)


# -- what imports what ------------------------------------------------------------------------------------------------


@cache
def source_of(module: str) -> Path | None:
    """The file of a module of the package."""
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def passed_on(package: Path) -> dict[str, str]:
    """The names that a package has from its modules."""
    if package == source_of("diffnotes.book"):
        return {name: f"diffnotes.book.{place.replace(':', '.')}" for name, place in book._PLACES.items()}
    nodes = [node for node in ast.parse(package.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {name.asname or name.name: f"{node.module}.{name.name}" for node in nodes for name in node.names}


def file_of(name: str) -> Path | None:
    """The file in which a dotted name is defined."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        if path := source_of(".".join(parts[:k])):
            further = passed_on(path).get(parts[k]) if path.name == "__init__.py" and k < len(parts) else None
            return file_of(".".join([further, *parts[k + 1 :]])) if further else path
    return None


@cache
def imports(path: Path) -> set[str]:
    """The files of the package, or the helpers beside a test, that a file imports or reaches through a name such as
    explorers.tilt."""
    names: dict[str, str] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {name.asname or name.name: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    reached = {
        f"{names[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }
    beside = {path.parent / f"{name.split('.')[0]}.py" for name in names.values()} if "tests" in path.parts else set()
    files = {file_of(name) for name in {*names.values(), *reached} if name.startswith(("diffnotes", "benchmarks"))} - {
        None
    }
    return {file.relative_to(ROOT).as_posix() for file in files | {file for file in beside if file.is_file()}}


@cache
def sources(folder: str, pattern: str = "*.py") -> list[str]:
    """The files of a folder, as paths from the root."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(pattern))


def by_imports(changed: str) -> list[tuple[int, int, str, str]]:
    """Distance, number of imports, test and reason of every test that imports a file, itself or through one module."""
    helpers = [path for path in sources("tests") if "/test_" not in path]
    users = [
        path for path in sources("diffnotes") + helpers if changed in imports(ROOT / path) and "__init__" not in path
    ]
    found = []
    for test in sources("tests", "test_*.py"):
        needed = imports(ROOT / test)
        between = next((user for user in users if user in needed), None)
        if changed in needed:
            found.append((1, len(needed), test, f"imports {changed}"))
        elif between:
            found.append((2, len(needed), test, f"imports {between}, which imports {changed}"))
    return sorted(found)


def by_name(changed: str) -> list[tuple[int, int, str, str]]:
    """The same of the tests that have the name of a file in their text."""
    name = Path(changed).name
    tests = [test for test in sources("tests", "test_*.py") if test != "tests/test_quick.py"]  # it names examples
    named = [test for test in tests if name in (ROOT / test).read_text(encoding="utf-8")]
    return [(1, len(imports(ROOT / test)), test, f"names {name}") for test in named]


# -- the choice -------------------------------------------------------------------------------------------------------


def choose(changed: Iterable[str]) -> Choice:
    """What to run after these files have changed, given as paths from the root."""
    choice, near = Choice(), []
    for path in sorted(changed):
        folder, _, name = path.rpartition("/")
        if not (ROOT / path).is_file():
            choice.left.append(f"what used {path}, which is gone: make test")
        elif path.startswith("tests/") and name.startswith("test_") and name.endswith(".py"):
            choice.add(path, "changed")
        elif path.startswith("tests/") and name == "conftest.py":
            choice.left.append(f"all of {folder}, for its {name} has changed: make unit")
        elif path.startswith("notebooks/") and name.endswith(".ipynb"):
            choice.notebooks.append(path)
        elif path.startswith(("diffnotes/", "benchmarks/", "tests/")) and name.endswith(".py"):
            rooms = folder.removeprefix("diffnotes").strip("/").split("/")
            for mirror in {f"tests/{'/'.join(rooms[:k])}/test_{name}" for k in range(1, len(rooms) + 1)}:
                if mirror in sources("tests", "test_*.py"):
                    choice.add(mirror, f"the mirror of {path}")
            found = by_imports(path) or by_imports(f"{folder}/__init__.py")
            near += found or by_name(path)
            choice.left += [] if found or by_name(path) else [f"no test imports {path}: make test"]
        else:
            near += by_name(path)
    mirrors, more = len(choice.tests), set()
    for _, _, test, why in sorted(near):
        if len(choice.tests) < mirrors + MOST:
            choice.add(test, why)
        elif test not in choice.tests:
            more.add(test)
    if more:
        choice.left.append(f"{len(more)} more test files that import what changed: make unit")
    if choice.notebooks or any(path.startswith("diffnotes/book/") for path in changed):
        choice.add("tests/browser/", "")
    return choice


def git(*words: str) -> str:
    """What git says; nothing if it refuses."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def what_changed() -> tuple[list[str], str]:
    """The files that differ from where the branch left main, committed or not; on main itself, those of the last commit."""
    main = next((name for name in ("main", "origin/main") if git("rev-parse", "--verify", "--quiet", name)), None)
    base, since = git("merge-base", "HEAD", main) if main else "", f"since {main}"
    new = git("ls-files", "--others", "--exclude-standard").splitlines()
    if not base or not (git("diff", "--name-only", "--no-renames", base) or new):
        why = "nothing has changed since main" if base else "there is no branch main here"
        base, since = git("rev-parse", "--verify", "--quiet", "HEAD~1"), f"in the last commit, for {why}"
    if not base:
        raise SystemExit("make quick compares with main or with the commit before, and git has neither here: make test")
    return sorted({*git("diff", "--name-only", "--no-renames", base).splitlines(), *new}), since


# -- the run ----------------------------------------------------------------------------------------------------------


def commands(choice: Choice) -> list[list[str]]:
    """Lint, then the tests, then the notebooks' rules and the notebooks themselves."""
    pytest = ["pytest", "-p", "no:cacheprovider"]
    lines = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]
    if choice.tests:
        lines.append([*pytest, *(["-n", "2"] if len(choice.tests) > 2 else []), *choice.tests])
    if choice.notebooks:
        stems = " or ".join(Path(path).stem for path in choice.notebooks)
        lines.append([*pytest, "-n", "2", RULES, "-k", stems])
        lines.append(["pytest", "-n", "2", *NBVAL, "--nbval-current-env", *choice.notebooks])
    return lines


def main() -> int:
    """Choose, say what, run it all, and say what was not run. 0 if everything passed."""
    changed, since = what_changed()
    choice = choose(changed)
    print(f"Changed {since}: {', '.join(changed)}")
    for test, why in choice.tests.items():
        print(f"  {test}  {why}")
    for path in choice.notebooks:
        print(f"  {path}  changed: run, and its rules in {RULES}")
    failed = []
    for words in commands(choice):
        print(f"\n$ {' '.join(words)}", flush=True)
        if subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=os.environ, check=False).returncode:
            failed.append(words[0] if words[0] != "pytest" else "tests")
    print("\nNot run here: " + "; ".join([*choice.left, "the rest: make test"]) + ".")
    print(f"Failed: {', '.join(dict.fromkeys(failed))}." if failed else "All of it passed.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
