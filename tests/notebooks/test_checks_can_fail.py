"""A check that cannot fail is a defect: every check of the book must refuse what the equation does not say."""

from pathlib import Path

import nbformat
import pytest
from book_files import NOTEBOOKS, check_calls, code_cells
from perturbed import probe_notebook

from diffnotes.book import check, symbols

WITH_CHECKS = [path for path in NOTEBOOKS if any(check_calls(cell.source) for _, cell in code_cells(path))]


@pytest.mark.parametrize("path", WITH_CHECKS, ids=lambda path: path.stem)
def test_every_check_refuses_a_perturbed_equation(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNOTES_BUDGET", "ci")
    monkeypatch.setenv("DIFFNOTES_OFFLINE", "1")
    monkeypatch.setenv("DIFFNOTES_RUNS", str(tmp_path))
    monkeypatch.chdir(path.parent)
    own = dict(symbols._IN_UNIT_INTERVAL)  # a notebook's own symbols end with it
    monkeypatch.setattr(symbols, "_IN_UNIT_INTERVAL", own)
    monkeypatch.setattr(check, "_HERE", [])
    monkeypatch.setattr(
        check, "_is_short", lambda _: False
    )  # what is refused need not be written out as nicely as it can
    probes = probe_notebook(path)
    assert [f"{probe.where} let pass {false}" for probe in probes for false in probe.passed.items()] == []
    assert [f"{probe.where}: {words}" for probe in probes for words in sorted(probe.objections)] == []
    assert [f"{probe.where} met {sorted(probe.refused)}" for probe in probes if len(probe.refused) < 2] == []


@pytest.mark.parametrize(
    ("cell", "let_pass"),
    [
        ("check.numeric('1.1', torch.ones(3), torch.ones(3), tol=10)", True),
        ("check.monte_carlo('1.2', torch.linspace(-1, 1, 101), 0.001)", True),
        ("check.inequality('1.3', 0, 1 + x_0**2, strict=False)", False),
        ("for k in (0, 1):\n    check.numeric('1.4', [k], [k**2])", False),
        ("claim = sqrt(alpha) ** 2\nawait asyncio.sleep(0)\ncheck.identity('1.5', 1 - beta, claim)", False),
    ],
)
def test_weak_checks_are_told_from_strong_ones(tmp_path: Path, cell: str, let_pass: bool):
    start = "import asyncio\nimport torch\nfrom sympy import sqrt\nfrom diffnotes.book import check\n"
    start += "from diffnotes.book.proof.symbols import alpha, beta, x_0"
    cells = [nbformat.v4.new_code_cell(source) for source in (start, cell)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_weak.ipynb")
    (probe,) = probe_notebook(tmp_path / "01_weak.ipynb")
    assert bool(probe.passed) == let_pass
    assert let_pass or len(probe.refused) >= 2
