"""A check that cannot fail is a defect: every check of the book must refuse what the equation does not say."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from book_files import NOTEBOOKS, check_calls, code_cells
from perturbed import Probe, probe_notebook

from diffnotes.book import symbols

WITH_CHECKS = [path for path in NOTEBOOKS if any(check_calls(cell.source) for _, cell in code_cells(path))]


@pytest.fixture(scope="module", params=WITH_CHECKS, ids=lambda path: path.stem)
def probes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Probe]]:
    path: Path = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFNOTES_BUDGET", "ci")
        patch.setenv("DIFFNOTES_OFFLINE", "1")
        patch.setenv("DIFFNOTES_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.chdir(path.parent)
        patch.setattr(
            symbols, "_IN_UNIT_INTERVAL", dict(symbols._IN_UNIT_INTERVAL)
        )  # a notebook's own symbols end with it
        yield probe_notebook(path)


def test_every_check_refuses_a_perturbed_equation(probes: list[Probe]):
    assert [f"{probe.where} let pass {false}" for probe in probes for false in probe.passed.items()] == []


def test_every_check_was_given_at_least_two_false_claims(probes: list[Probe]):
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
    start += "from diffnotes.book.symbols import alpha, beta, x_0"
    cells = [nbformat.v4.new_code_cell(source) for source in (start, cell)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_weak.ipynb")
    (probe,) = probe_notebook(tmp_path / "01_weak.ipynb")
    assert bool(probe.passed) == let_pass
    assert let_pass or len(probe.refused) >= 2
