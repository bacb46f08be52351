"""Where runs are kept, and how long a notebook may take."""

from pathlib import Path

import pytest

from diffnotes.book import budget, runs_folder


def test_runs_are_kept_beside_the_notebooks_unless_a_folder_is_named(monkeypatch):
    monkeypatch.delenv("DIFFNOTES_RUNS", raising=False)
    assert runs_folder() == Path("runs")
    monkeypatch.setenv("DIFFNOTES_RUNS", "")
    assert runs_folder() == Path("runs")
    monkeypatch.setenv("DIFFNOTES_RUNS", "/elsewhere/runs")
    assert runs_folder() == Path("/elsewhere/runs")


@pytest.mark.parametrize("named", ["~/mine/runs", "$RUNS/runs", "${RUNS}/runs", "$HOME/mine/runs"])
def test_home_and_variables_in_the_name_of_the_folder_are_expanded(tmp_path, monkeypatch, named):
    for variable, place in (("HOME", tmp_path), ("USERPROFILE", tmp_path), ("RUNS", tmp_path / "mine")):
        monkeypatch.setenv(variable, str(place))
    monkeypatch.setenv("DIFFNOTES_RUNS", named)
    assert runs_folder() == tmp_path / "mine" / "runs"


def test_a_budget_is_full_unless_a_quick_run_is_asked_for(monkeypatch):
    monkeypatch.delenv("DIFFNOTES_BUDGET", raising=False)
    assert budget(full=180, ci=2) == 180
    monkeypatch.setenv("DIFFNOTES_BUDGET", "ci")
    assert budget(full=180, ci=2) == 2
    monkeypatch.setenv("DIFFNOTES_BUDGET", "quick")
    with pytest.raises(ValueError, match=r"^DIFFNOTES_BUDGET must be \"full\" or \"ci\", got 'quick'$"):
        budget(full=180, ci=2)
