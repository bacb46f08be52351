"""The explorers of the pages compute what the notebook's do: every moving part of the figure, and the reading to the letter."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_edition import ROOT

sys.path.append(str(ROOT / "docs"))
curves = pytest.importorskip("curves")  # it needs Sphinx
from figure import data, runs  # noqa: E402

MODULES = ROOT / "docs" / "static" / "curves"
COMPUTE = """
import { readFileSync, writeFileSync } from "node:fs";
const [name, asked, answered] = process.argv.slice(2);
const [{ compute }, { default: told }] = await Promise.all([import(`./${name}.js`), import(`./${name}.data.js`)]);
const plain = (key, value) => (typeof value === "number" && !Number.isFinite(value) ? null : value);
const states = JSON.parse(readFileSync(asked, "utf-8"));
writeFileSync(answered, JSON.stringify(states.map((state) => compute(state, told.data)), plain));
"""
WRITE = """
import { readFileSync } from "node:fs";
import { f } from "./words.js";
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf-8")).map(([x, form]) => f(x, form))));
"""
RANDOM = 6  # states of each explorer, and as many with every control at an end of it
# all agree to a millionth, but for the gate's paths, which are kept in cells of 0.0002, and greys, whole numbers from float32
ABSOLUTE = {("gate", 0, "y"): 1.1e-4, ("schedule", 4, "values"): 1}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the explorers' modules, for node; without node the tests are skipped, but on CI they fail."""
    if shutil.which("node") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no node found: install Node.js 18 or newer")
    folder = tmp_path_factory.mktemp("curves")
    for script in MODULES.glob("*.js"):
        shutil.copy(script, folder)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "compute.js").write_text(COMPUTE, encoding="utf-8")
    (folder / "write.js").write_text(WRITE, encoding="utf-8")
    return folder


def answers(node: Path, name: str, data: dict[str, Any], states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What compute(state, data) of an explorer gives, for each state."""
    told, asked, answered = (node / f"{name}.{kind}" for kind in ("data.js", "asked", "answered"))
    told.write_text(f"export default {json.dumps({'data': data})};", encoding="utf-8")
    asked.write_text(json.dumps(states), encoding="utf-8")
    subprocess.run(["node", "compute.js", name, str(asked), str(answered)], cwd=node, check=True)
    return json.loads(answered.read_text(encoding="utf-8"))


def values(control: dict[str, Any]) -> list[Any]:
    """All values of a control."""
    if "options" in control:
        return [value for _, value in control["options"]]
    number = round((control["max"] - control["min"]) / control["step"])
    places = [control["min"] + k * control["step"] for k in range(number + 1)]
    if "base" in control:
        return [control["base"] ** place for place in places]
    return [int(place) if control["form"] == "d" else round(place, 6) for place in places]


def chosen(controls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first state, those with one control at an end of it, some with all at an end, and some by chance."""
    first = {control["key"]: control["value"] for control in controls}
    ends = {c["key"]: values(c) if "options" in c else [values(c)[0], values(c)[-1]] for c in controls}
    found = [first] + [first | {key: end} for key, some in ends.items() for end in some]
    rng = np.random.default_rng(0)
    found += [{key: some[rng.integers(len(some))] for key, some in ends.items()} for _ in range(RANDOM)]
    return found + [{c["key"]: values(c)[rng.integers(len(values(c)))] for c in controls} for _ in range(RANDOM)]


def apart(ours: Any, theirs: Any, absolute: float | None = None) -> float:
    """The largest distance of two nested lists in millionths of their numbers, or of a millionth of the largest one, and at least
    1e-9, where they are smaller; or in units of `absolute`. Infinite if their shapes or gaps differ."""
    a, b = (np.array(value, dtype=float) for value in (ours, theirs))
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return np.inf
    there = ~np.isnan(b)
    size = np.abs(b[there])
    unit = absolute or 1e-6 * np.maximum(size, max(1e-9, 1e-6 * size.max(initial=0)))
    return float((np.abs(a - b)[there] / unit).max(initial=0))


@pytest.mark.parametrize("name", curves.PAGES)
def test_the_page_computes_what_the_notebook_computes(node: Path, name: str):
    explorer, told = curves.curve_data.EXPLORERS[name]()
    states = chosen([curves.control(key, widget) for key, widget in explorer.controls.items()])
    worst = 0.0
    for state, answer in zip(states, answers(node, name, told, states), strict=True):
        assert answer["reading"] == explorer.update(**state), state
        off = {key for key, widget in explorer.controls.items() if getattr(widget, "disabled", False)}
        assert set(answer.get("off", [])) == off, state
        for i, (curve, artist) in enumerate(zip(answer["curves"], explorer.plot.artists, strict=True)):
            assert (curve is not None) == artist.get_visible(), (state, i)
            for key, numbers in data(artist).items() if curve else ():
                if key in ("parts", "words"):  # of an arrow, or a title
                    assert curve[key] == [list(run) if key == "words" else run for run in numbers], (state, i)
                    continue
                far = apart(curve[key], numbers, ABSOLUTE.get((name, i, key)))
                assert far <= 1, (state, i, key, far)
                worst = max(worst, far)
            for key, of in (("colour", "get_color"), ("width", "get_linewidth")):
                assert not curve or key not in curve or curve[key] == getattr(artist, of)(), (state, i, key)
    print(f"{name}: {len(states)} states, at most {worst:.1e} of what is allowed apart")


def test_numbers_are_written_as_python_writes_them(node: Path):
    numbers = [
        0.0,
        0.125,
        0.375,
        -0.125,
        2.5,
        3.5,
        1e-5,
        9.996e-5,
        123456.0,
        1234567.0,
        0.99996,
        99.95,
        1e22,
        -0.0004,
        1 / 3,
    ]
    forms = [".0f", ".1f", ".2f", ".3f", ".2g", ".3g", ".4g", "g", ".0%"]
    pairs = [(x, form) for x in numbers for form in forms if not (x == 1e22 and form[-1] in "f%")]
    pairs += [(200_000, ","), (17, ","), (1_234_567, ","), (17, "d")]
    done = subprocess.run(
        ["node", "write.js"], cwd=node, input=json.dumps(pairs), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [format(x, form) for x, form in pairs]


def test_labels_become_runs_of_one_style():
    assert runs("likelihood of $x_t$") == [("likelihood of ", ""), ("x", "i"), ("t", "_")]
    assert runs("what is left, ᾱ_t, and D_KL(q)")[:4] == [
        ("what is left, ᾱ", ""),
        ("t", "_"),
        (", and D", ""),
        ("KL", "_"),
    ]
    assert runs(r"$L_{\rm simple}$") == [("L", "i"), ("simple", "_")]
    assert runs(r"$q_\phi(\mathbf{z}_1)$") == [("q", "i"), ("φ", "_"), ("(", ""), ("z", "b"), ("1", "_"), (")", "")]
    assert runs(r"$\mathdefault{10^{-6}}$") == [("1", ""), ("0", ""), ("−6", "^")]


def test_a_figure_that_the_pages_cannot_draw_is_refused():
    from matplotlib.patches import Wedge

    with pytest.raises(ValueError, match=r"artist must be one that the pages can draw .* got Wedge"):
        data(Wedge((0, 0), 1, 0, 90))
