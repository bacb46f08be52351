"""Explorers that live without a kernel: the formulas of the notebook's explorer in JavaScript (static/curves), its controls,
words and figure read from the Python explorer when the site is built.

For each explorer `static/curves/NAME.js` has one function, compute(state, data): from the controls' values to what the figure's
moving artists show, and the reading below it. What is written here to `_static/curves/NAME.data.js` is the rest: the controls,
the figure (figure.py), and the numbers that the explorer's module holds (curve_data.py). They are kept in _build/curves, under
a name made from the code and the digit that they come from."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import curve_data
import ipywidgets as widgets
from figure import describe
from sphinx.application import Sphinx

PACKAGE = Path(__file__).parents[1] / "diffnotes"
# by name: the chapter whose notebook shows it, and the line that does so
PAGES = {
    "schedule": ("01_forward_process", "explorers.schedule(images.x[0])"),
    "humps": ("90_gaussian_toolkit", "explorers.humps()"),
    "kl": ("90_gaussian_toolkit", "gaussians.kl()"),
    "gate": ("02_bayes_posterior", "explorers.gate(coarse)"),
    "posterior": ("02_bayes_posterior", "explorers.posterior(hundred, t=40, back=20)"),
    "weights": ("04_epsilon_loss", "explorers.weights()"),
    "telescope": ("11_hierarchical_vae_to_vdm", "explorers.telescope()"),
    "tilt": ("09_guidance", "explorers.tilt()"),
    "roads": ("13_scores_and_sdes", "explorers.roads()"),
    "solvers": ("14_fewer_steps", "explorers.solvers()"),
    "flows": ("15_flows", "explorers.flows()"),
}


def page_of(docname: str, source: str) -> str | None:
    """The name of the explorer that a chapter's cell shows, if it is one of those above."""
    for name, (chapter, call) in PAGES.items():
        if docname.endswith(chapter) and source.rstrip().endswith(call):
            return name
    return None


def wrap(name: str, picture: str) -> str:
    """The HTML of an output, which static/curves/page.js makes an explorer; without scripts it stays the picture that it is."""
    script = '<script type="module" src="../_static/curves/page.js"></script>'
    return f'<div data-curves="{name}">{picture}</div>{script}'


def told(name: str) -> dict[str, Any]:
    """What the page must know of an explorer: title, controls, figure and numbers."""
    explorer, data = curve_data.EXPLORERS[name]()
    return {
        "title": title(explorer),
        "controls": [control(key, widget) for key, widget in explorer.controls.items()],
        "figure": describe(explorer.plot),
        "data": data,
    }


def title(explorer: Any) -> str:
    """What stands above its sliders."""
    row = explorer.widget.children[0]
    return re.sub(r"<b>(.*?)</b>.*", r"\1", row.children[0].children[0].value, flags=re.DOTALL)


def control(key: str, widget: widgets.Widget) -> dict[str, Any]:
    """A slider or a menu; the limits of a logarithmic slider are exponents of its base."""
    told = {"key": key, "name": widget.description, "value": widget.value}
    if isinstance(widget, widgets.Dropdown):
        pairs = [option if isinstance(option, tuple) else (option, option) for option in widget.options]
        return told | {"options": [[words, value] for words, value in pairs]}
    if isinstance(widget, widgets.FloatLogSlider):
        told["base"] = widget.base
    return told | {"min": widget.min, "max": widget.max, "step": widget.step, "form": widget.readout_format}


def curves(app: Sphinx) -> None:
    """Write what is not written yet, and add it to the site."""
    from diffnotes import load_images

    made_of = [path.read_bytes() for path in sorted([*PACKAGE.rglob("*.py"), *Path(__file__).parent.glob("*.py")])]
    code = b"".join([*made_of, load_images("auto").x[0].numpy().tobytes()])
    kept = Path(__file__).parent / "_build" / "curves"
    folder = kept / hashlib.sha256(code).hexdigest()[:16] / "curves"
    for old in kept.glob("*"):
        if old != folder.parent:
            shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        file = folder / f"{name}.data.js"
        if not file.exists():
            text = json.dumps(told(name), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            file.with_suffix(".new").write_text(f"export default {text};\n", encoding="utf-8")
            file.with_suffix(".new").replace(file)
    app.config.html_static_path.append(str(folder.parent))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", curves)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
