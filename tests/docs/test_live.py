"""The site where the runtime of the network is missing. What it does where it is there: tests/browser/test_live_pages.py."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs"))
live = pytest.importorskip("live")
from sphinx.errors import ConfigError  # noqa: E402 - docs/live.py needs Sphinx too


class Site(SimpleNamespace):
    """What the extension uses of Sphinx."""

    def __init__(self) -> None:
        super().__init__(config=SimpleNamespace(html_static_path=["static"]), scripts=[])

    def add_js_file(self, name: str, **_: str) -> None:
        self.scripts.append(name)


@pytest.fixture
def without(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(live, "RUNTIME", tmp_path)


def test_without_npm_the_pages_keep_their_pictures(without, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    site = Site()
    live.live(site)
    assert (site.scripts, site.config.html_static_path) == ([], ["static"])
    assert live.beside("notebooks/08_ddim", "explorers.round_trip(real)") == ""


def test_on_ci_that_is_an_error(without, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(
        ConfigError, match=r"built without the network .* ONNX Runtime Web is not in docs/live/node_modules"
    ):
        live.live(Site())


def test_every_live_explorer_stands_beside_a_cell_of_its_chapter():
    import nbformat

    folder = Path(__file__).parents[2] / "notebooks"
    for chapter, call in live.BESIDE:
        cells = nbformat.read(folder / f"{chapter}.ipynb", as_version=4).cells
        last = [cell.source.rstrip().rpartition("\n")[2] for cell in cells if cell.cell_type == "code"]
        assert sum(line.startswith(call) for line in last) >= 1, (chapter, call)


def test_what_comes_from_npm_is_pinned_with_its_hash():
    import json

    folder = Path(__file__).parents[2] / "docs" / "live"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert set(wanted) == {"onnxruntime-web", "reveal.js"}
    for name, version in wanted.items():
        package = locked[f"node_modules/{name}"]
        assert package["version"] == version and package["integrity"].startswith("sha512-")
