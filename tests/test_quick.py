"""make quick chooses by mirror, by imports and by name, says what it leaves out, and knows what has changed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import quick

ROOT = Path(__file__).resolve().parents[1]


def test_a_module_has_its_mirror_first_then_the_nearest_of_those_that_import_it():
    choice = quick.choose(["diffnotes/process/solvers.py"])
    tests = list(choice.tests)
    assert tests[0] == "tests/process/test_solvers.py" and "the mirror" in choice.tests[tests[0]]
    assert "tests/process/test_choose.py" in tests and len(tests) == 1 + quick.MOST
    (left,) = (line for line in choice.left if "make unit" in line)
    assert re.match(r"\d+ more test files that import what changed", left)


def test_an_import_through_one_module_counts_and_is_named():
    why = quick.choose(["diffnotes/training/objectives/elbo.py"]).tests["tests/models/test_grey.py"]
    assert why == "imports diffnotes/training/train_grey.py, which imports diffnotes/training/objectives/elbo.py"


def test_a_name_of_a_package_leads_to_its_module():
    """explorers.build_schedule, where only `explorers` is imported."""
    tests = quick.choose(["diffnotes/book/explorers/schedule.py"]).tests
    assert tests["tests/book/test_plots_and_explorers.py"] == "imports diffnotes/book/explorers/schedule.py"


@pytest.mark.parametrize(
    ("changed", "test"),
    [
        ("diffnotes/book/explorers/tilt.py", "tests/book/test_explorer_tilt.py"),  # from ...explorers import build_tilt
        ("diffnotes/book/explorers/schedule.py", "tests/book/test_plots_and_explorers.py"),  # explorers.build_schedule
        ("diffnotes/book/proof/check.py", "tests/book/test_check.py"),  # from diffnotes.book import check
        ("diffnotes/book/exercises/chapter_08.py", "tests/book/test_exercises.py"),  # through its package
        ("diffnotes/training/trainer.py", "tests/training/test_trainer.py"),
        ("benchmarks/report.py", "tests/test_benchmarks.py"),
        ("tests/notebooks/ticks.py", "tests/notebooks/test_checks_can_fail.py"),  # through perturbed.py
        ("tests/book/pixels.py", "tests/book/test_explorer_tilt.py"),
        ("tests/process/test_flow.py", "tests/process/test_flow.py"),
        ("docs/architecture.md", "tests/test_imports.py"),  # by its name
        ("tests/warm/zygote.py", "tests/warm/test_warm_kernels.py"),
        ("Makefile", "tests/test_project_files.py"),
    ],
)
def test_a_change_has_the_test_that_would_notice(changed: str, test: str):
    assert test in quick.choose([changed]).tests


def test_every_module_of_process_and_models_has_a_test():
    for path in quick.sources("diffnotes/process") + quick.sources("diffnotes/models"):
        if not path.endswith("__init__.py"):
            choice = quick.choose([path])
            assert choice.tests and all((ROOT / test).is_file() for test in choice.tests)


def test_a_notebook_is_run_and_its_rules_with_it():
    choice = quick.choose(["notebooks/09_guidance.ipynb"])
    assert (choice.notebooks, choice.left) == (["notebooks/09_guidance.ipynb"], ["tests/browser: make browser"])
    rules, run = quick.commands(choice)[-2:]
    assert rules[-3:] == ["tests/notebooks", "-k", "09_guidance"] and run[-1] == "notebooks/09_guidance.ipynb"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("tests/browser/test_reading.py", "tests/browser: make browser"),
        ("docs/live.py", "tests/docs: make unit"),
        ("tests/process/conftest.py", "all of tests/process, for its conftest.py has changed: make unit"),
        ("diffnotes/book/press/build.py", "no test imports diffnotes/book/press/build.py: make test"),
        ("diffnotes/no_more.py", "what used diffnotes/no_more.py, which is gone: make test"),
    ],
)
def test_what_is_left_out_is_said(changed: str, words: str):
    choice = quick.choose([changed])
    assert words in choice.left and not any(test.startswith(tuple(quick.SLOW)) for test in choice.tests)


def test_notebooks_are_run_as_make_notebooks_runs_them():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile[makefile.index("\nnotebooks: ") :].split("\n\n")[0].replace("\\\n", " ").split()
    assert [flag for flag in quick.NBVAL if flag not in recipe] == []


# -- what has changed -------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two commits on main: a.py, then b.py."""
    monkeypatch.setattr(quick, "ROOT", tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "-q", "-b", "main")
    for name in ("a.py", "b.py"):
        commit(tmp_path, name)
    return tmp_path


def git(folder: Path, *words: str) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, name: str) -> None:
    (folder / name).write_text("1\n")
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", name)


def test_on_main_with_nothing_changed_it_is_the_last_commit(repository: Path):
    assert quick.what_changed() == (["b.py"], "in the last commit, for nothing has changed since main")


def test_on_a_branch_it_is_what_was_committed_changed_and_added_since_main(repository: Path):
    git(repository, "switch", "-q", "-c", "mine")
    commit(repository, "c.py")
    (repository / "a.py").write_text("2\n")
    (repository / "d.py").write_text("3\n")
    git(repository, "branch", "-f", "main", "HEAD~1")
    assert quick.what_changed() == (["a.py", "c.py", "d.py"], "since main")


def test_what_main_has_got_since_is_not_counted(repository: Path):
    git(repository, "switch", "-q", "-c", "mine")
    commit(repository, "c.py")
    git(repository, "switch", "-q", "main")
    commit(repository, "e.py")
    git(repository, "switch", "-q", "mine")
    assert quick.what_changed() == (["c.py"], "since main")


def test_without_main_and_without_a_commit_before_it_says_so(repository: Path):
    git(repository, "switch", "-q", "--orphan", "alone")
    commit(repository, "f.py")
    git(repository, "branch", "-D", "main")
    with pytest.raises(SystemExit, match="git has neither here: make test"):
        quick.what_changed()


# -- the run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "last"), [("1", "All of it passed."), ("not JSON", "Failed: json.tool.")])
def test_it_fails_if_anything_did(words: str, last: str, tmp_path: Path, monkeypatch, capfd):
    (tmp_path / "words").write_text(words)
    monkeypatch.setattr(quick, "what_changed", lambda: (["diffnotes/process/gp.py"], "since main"))
    monkeypatch.setattr(quick, "commands", lambda _: [["json.tool", str(tmp_path / "words")], ["json.tool", "--help"]])
    assert quick.main() == (last != "All of it passed.")
    said = capfd.readouterr().out
    assert "Changed since main: diffnotes/process/gp.py" in said and said.splitlines()[-1] == last
    assert "tests/process/test_gp.py  the mirror of diffnotes/process/gp.py" in said and "Not run here: " in said


def test_it_is_called_as_a_script():
    probe = "import sys; sys.path.insert(0, 'tests'); import quick; print(quick.choose(['Makefile']).tests)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "test_project_files" in done.stdout
