"""The HTML edition builds without a warning, its links lead somewhere, and it needs nothing from elsewhere."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from build_edition import REPOSITORY, ROOT
from conftest import Site
from pages import is_elsewhere, target

from diffnotes.book.press.scan import equations, notebooks
from diffnotes.book.proof.chapters import CHAPTERS
from diffnotes.training.data import load_images

sys.path.append(str(ROOT / "docs"))
curves = pytest.importorskip("curves")  # it needs Sphinx

CHAPTER_PAGES = [f"notebooks/{name}.html" for name in CHAPTERS.values()]


def html_outputs(path: Path) -> list[str]:
    """The stored HTML of a notebook's explorers, dashboards and sliders."""
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    bundles = [output.data for output in outputs if "data" in output]
    return [b["text/html"] for b in bundles if b.get("text/plain", "").startswith("An interactive figure")]


def test_the_build_has_no_warnings(site: Site):
    assert site.said == ""


def test_the_contents_are_in_the_order_of_the_book(site: Site):
    sidebar = site.pages["index.html"].text.split("bd-docs-nav", 1)[1].split("</nav>", 1)[0]
    found = [link for link in re.findall(r'href="([^"#]+)"', sidebar) if link != "index.html"]
    others = ["teaching.html", "benchmarks.html", "glossary.html", "symbols.html", "architecture.html", "cite.html"]
    assert found == [*CHAPTER_PAGES, *others]


def test_every_link_within_the_site_resolves(site: Site):
    lost = []
    for name, page in site.pages.items():
        for link in page.links:
            if is_elsewhere(link) or link == "#":
                continue
            path, fragment = target(name, link)
            ids = site.pages[path].ids if path in site.pages else []
            if not (site.folder / path).is_file() or (fragment and fragment not in ids):
                lost.append(f"{name}: {link}")
    assert lost == []


def test_no_id_stands_twice_on_a_page(site: Site):
    twice = {name: {i for i in page.ids if page.ids.count(i) > 1} for name, page in site.pages.items()}
    assert {name: ids for name, ids in twice.items() if ids} == {}


def test_every_numbered_equation_is_on_its_page_with_its_number(site: Site):
    missing = []
    for equation in equations():
        page = site.pages[f"notebooks/{Path(equation.notebook).stem}.html"]
        if f"eq-{equation.tag}" not in page.ids or rf"\tag{{{equation.tag}}}" not in page.text:
            missing.append(equation.tag)
    assert missing == []


def test_every_picture_has_an_alternative_text(site: Site):
    assert {
        name: page.alts for name, page in site.pages.items() if not all(alt and alt.strip() for alt in page.alts)
    } == {}


def test_no_page_loads_anything_from_elsewhere(site: Site):
    loaded = {name: [a for a in page.loaded if is_elsewhere(a)] for name, page in site.pages.items()}
    assert {name: found for name, found in loaded.items() if found} == {}


def test_no_style_sheet_loads_anything_from_elsewhere(site: Site):
    sheets = {path.name: path.read_text(encoding="utf-8") for path in site.folder.glob("_static/**/*.css")}
    asked = {
        name: re.findall(r"(?:url\(|@import)[\s\"']*(?:https?:)?//[^)\"';]*", text) for name, text in sheets.items()
    }
    assert sheets and {name: found for name, found in asked.items() if found} == {}


@pytest.mark.parametrize("name", CHAPTERS.values())
def test_a_chapter_can_be_started_and_downloaded(site: Site, name: str):
    page, place = site.pages[f"notebooks/{name}.html"], REPOSITORY.removeprefix("https://github.com/")
    assert f"https://mybinder.org/v2/gh/{place}/main?urlpath=lab/tree/notebooks/{name}.ipynb" in page.links
    assert f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}.ipynb" in page.links
    downloads = {target(f"notebooks/{name}.html", link)[0] for link in page.links if "_sources" in link}
    assert downloads == {f"_sources/notebooks/{name}.ipynb"}
    assert (site.folder / downloads.pop()).read_bytes() == (ROOT / "notebooks" / f"{name}.ipynb").read_bytes()


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_every_explorer_has_a_line_that_says_how_to_run_it(site: Site, path: Path):
    page = site.pages[f"notebooks/{path.stem}.html"]
    assert page.classes.count("run-it") == len(html_outputs(path))


@pytest.mark.parametrize("name", curves.PAGES)
def test_an_explorer_on_a_page_begins_where_the_notebook_s_does(site: Site, name: str):
    chapter, _ = curves.PAGES[name]
    assert f'data-curves="{name}"' in site.pages[f"notebooks/{chapter}.html"].text
    assert (site.folder / "_static" / "curves" / f"{name}.js").is_file()
    script = (site.folder / "_static" / "curves" / f"{name}.data.js").read_text(encoding="utf-8")
    told = json.loads(script.removeprefix("export default ").rstrip(";\n"))
    explorer, _ = curves.curve_data.EXPLORERS[name]()
    assert {control["key"]: control["value"] for control in told["controls"]} == explorer.defaults
    reading, outputs = explorer.reading.value, html_outputs(ROOT / "notebooks" / f"{chapter}.ipynb")
    if load_images("auto").name != "mnist":  # the notebook's digit, whose bits the reading tells, is from MNIST
        reading, *outputs = (re.sub(r"[\d.e+-]+ bits", "some bits", text) for text in (reading, *outputs))
    (stored,) = [html for html in outputs if html.endswith(f"{reading}</div>")]
    assert stored.startswith("<img alt=")


def test_a_menu_on_a_page_has_the_words_of_the_notebook_s():
    explorer, _ = curves.curve_data.weights()
    menus = {
        key: [words for words, _ in curves.control(key, menu)["options"]]
        for key, menu in explorer.controls.items()
        if key != "t"
    }
    assert menus["target"] == ["the noise ε", "the image x_0", "v"] and menus["variance"] == ["β_t", "β̃_t"]
    assert menus["kind"] == ["linear", "cosine"]
