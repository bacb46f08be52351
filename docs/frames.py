"""Explorers that move on a page, without a kernel: pictures of some of their states, drawn at build time by the explorer
itself, behind HTML's own sliders.

One description serves notebook and page: controls, picture, reading and alt text are those of the `Explorer` that the
notebook shows. A page adds only at which values each control stops. The pictures are kept in _build/frames, under a name
made from the code that draws them and the digit that they show, and drawn again when either changes."""

import hashlib
import io
import itertools
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from sphinx.application import Sphinx

PACKAGE = Path(__file__).parents[1] / "diffnotes"


@dataclass(frozen=True)
class Page:
    """An explorer on a page: in which chapter and by what line the notebook shows it, how to build it, and the stops of its
    controls, the values they begin with among them; controls that are not named stay where they are. A control may count
    its stops in shares of another one: {"t": "T"}."""

    chapter: str
    call: str
    build: Callable[[], Any]
    stops: Mapping[str, Sequence[Any]]
    shares: Mapping[str, str]


def schedule() -> Any:
    """The schedule explorer of chapter 1, on the digit that the chapter takes."""
    from diffnotes import load_images
    from diffnotes.book.explorers import build_schedule

    return build_schedule(load_images("auto").x[0])


def posterior() -> Any:
    """Slice and multiply, chapter 2."""
    from diffnotes import Schedule
    from diffnotes.book.explorers import build_posterior

    return build_posterior(Schedule.cosine(T=100), t=40, back=20)


def gate() -> Any:
    """The gate of chapter 2."""
    from diffnotes import Schedule
    from diffnotes.book.explorers import build_gate

    return build_gate(Schedule.cosine(T=20))


def humps() -> Any:
    """Two humps to a bell and back, the opening of appendix A."""
    from diffnotes.book.explorers import build_humps

    return build_humps()


def kl() -> Any:
    """The two bells of appendix A."""
    from diffnotes.book.explorers import build_kl

    return build_kl()


def weights() -> Any:
    """What the losses weigh, chapter 4."""
    from diffnotes.book.explorers import build_weights

    return build_weights()


def telescope() -> Any:
    """The arrows turned along the chain, chapter 11."""
    from diffnotes.book.explorers import build_telescope

    return build_telescope()


def tilt() -> Any:
    """Densities tilted, noised and drawn from, chapter 9."""
    from diffnotes.book.explorers import build_tilt

    return build_tilt()


def roads() -> Any:
    """Every road from noise, chapter 13."""
    from diffnotes.book.explorers import build_roads

    return build_roads()


def solvers() -> Any:
    """The race of the solvers, chapter 14."""
    from diffnotes.book.explorers import build_solvers

    return build_solvers()


def flows() -> Any:
    """Noise into a ring, chapter 15."""
    from diffnotes.book.explorers import build_flows

    return build_flows()


PAGES = {
    "schedule": Page(
        chapter="01_forward_process",
        call="explorers.schedule(images.x[0])",
        build=schedule,
        stops={
            "kind": ["linear", "quadratic", "sigmoid", "cosine"],
            "T": [20, 200, 1000],
            "beta_T": [0.02, 0.1, 0.4],
            "t": [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1],
        },
        shares={"t": "T"},
    ),
    "humps": Page(
        chapter="90_gaussian_toolkit",
        call="explorers.humps()",
        build=humps,
        stops={"b": [0.2, 0.26, 0.32, 0.38, 0.42, 0.46, 0.5, 0.54, 0.6, 0.66, 0.72, 0.78, 0.84, 0.9, 0.94, 0.98, 1]},
        shares={},
    ),
    "kl": Page(
        chapter="90_gaussian_toolkit",
        call="gaussians.kl()",
        build=kl,
        stops={"mu_2": [-2, -1, 0, 1, 2], "sigma_1": [0.5, 1, 1.5, 2], "sigma_2": [0.5, 1, 1.5, 2]},
        shares={},
    ),
    "gate": Page(
        chapter="02_bayes_posterior",
        call="explorers.gate(coarse)",
        build=gate,
        stops={"t": [2, 5, 10, 15, 20], "x_t": [-1.2, -0.8, -0.4, 0, 0.4, 0.8, 1.2]},
        shares={},
    ),
    "posterior": Page(
        chapter="02_bayes_posterior",
        call="explorers.posterior(hundred, t=40, back=20)",
        build=posterior,
        stops={"t": [25, 40, 70], "back": [1, 5, 20], "x_t": [-0.6, 0, 0.2, 0.8], "start": ["unknown", "+1", "-1"]},
        shares={},
    ),
    "weights": Page(
        chapter="04_epsilon_loss",
        call="explorers.weights()",
        build=weights,
        stops={
            "kind": ["linear", "cosine"],
            "target": ["eps", "x0", "v"],
            "variance": ["beta", "beta_tilde"],
            "t": [1, 10, 50, 100, 200, 349, 500, 700, 900, 1000],
        },
        shares={},
    ),
    "telescope": Page(
        chapter="11_hierarchical_vae_to_vdm",
        call="explorers.telescope()",
        build=telescope,
        stops={"stop": [0, 1, 2, 3, 4, 5, 6, 7]},
        shares={},
    ),
    "tilt": Page(
        chapter="09_guidance",
        call="explorers.tilt()",
        build=tilt,
        stops={"s": [0, 0.5, 1, 1.5, 2, 3, 5, 7], "t": [200, 300, 400, 500, 600, 800, 1000]},
        shares={},
    ),
    "roads": Page(
        chapter="13_scores_and_sdes",
        call="explorers.roads()",
        build=roads,
        stops={"lam": [0, 0.3, 0.5, 1, 1.5], "steps": [5, 10, 20, 50, 100, 200]},
        shares={},
    ),
    "solvers": Page(
        chapter="14_fewer_steps",
        call="explorers.solvers()",
        build=solvers,
        stops={
            "solver": ["DDIM", "Heun", "2M", "2M with 1/r", "SDE-2M"],
            "calls": [3, 5, 8, 12, 20],
            "grid": ["karras", "t", "lambda"],
            "rho": [1, 7, 20],
        },
        shares={},
    ),
    "flows": Page(
        chapter="15_flows",
        call="explorers.flows()",
        build=flows,
        stops={
            "t": [0, 0.2, 0.4, 0.6, 0.8, 1],
            "steps": [1, 2, 4, 10, 50],
            "pairs": ["independent", "transport", "reflow"],
        },
        shares={},
    ),
}


def page_of(docname: str, source: str) -> str | None:
    """The name of the explorer that a chapter's cell shows, if it is one of those above."""
    for name, page in PAGES.items():
        if docname.endswith(page.chapter) and source.rstrip().endswith(page.call):
            return name
    return None


def wrap(name: str, picture: str) -> str:
    """The HTML of an output, with the page's controls beside it; without scripts it stays the picture that it is."""
    script = f'<script defer src="../_static/frames/{name}.js"></script>'
    return f'<div data-frames="{name}">{picture}</div>{script}'


# -- drawing ------------------------------------------------------------------------------------------------------------------


def draw(name: str, folder: Path) -> None:
    """Draw every state of an explorer into `folder`/`name`/, and write `name`.js: what the controls are, and for every state
    its picture, its reading, and which controls are off."""
    page = PAGES[name]
    explorer = page.build()
    (folder / name).mkdir(parents=True, exist_ok=True)
    start = [_start(explorer.defaults, key, stops, page.shares) for key, stops in page.stops.items()]
    states: dict[tuple[int, ...], list[Any]] = {}
    for places in itertools.product(*(range(len(stops)) for stops in page.stops.values())):
        chosen = {key: stops[i] for (key, stops), i in zip(page.stops.items(), places, strict=True)}
        for key, other in page.shares.items():
            chosen[key] = round(chosen[key] * chosen[other])
        reading = explorer.update(**(explorer.defaults | chosen))
        off = [key for key in page.stops if getattr(explorer.controls[key], "disabled", False)]
        same = tuple(first if key in off else i for key, i, first in zip(page.stops, places, start, strict=True))
        states[places] = states.get(same) or [_save(explorer.plot.picture(), folder, name), reading, off]
    controls = [
        {
            "name": explorer.controls[key].description + (f" / {page.shares[key]}" if key in page.shares else ""),
            "key": key,
            "stops": [_words(explorer.controls[key], stop) if isinstance(stop, str) else f"{stop:g}" for stop in stops],
            "start": first,
            "menu": isinstance(stops[0], str),
        }
        for (key, stops), first in zip(page.stops.items(), start, strict=True)
    ]
    by_place = {",".join(map(str, places)): state for places, state in states.items()}
    data = {"title": _title(explorer), "controls": controls, "states": by_place}
    (folder / f"{name}.js").write_text(
        f"(window.explorerFrames ??= {{}})[{json.dumps(name)}] = {json.dumps(data, ensure_ascii=False)};\n",
        encoding="utf-8",
    )


def _save(picture: Image.Image, folder: Path, name: str) -> str:
    """Store a picture under the name of its content, which is returned."""
    buffer = io.BytesIO()
    picture.convert("RGB").quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "png")
    file = f"{name}/{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.png"
    (folder / file).write_bytes(buffer.getvalue())
    return file


def _words(menu: Any, value: str) -> str:
    """What a menu shows for a value: its options are values, or pairs of words and value."""
    pairs = (option if isinstance(option, tuple) else (option, option) for option in menu.options)
    return next(words for words, of in pairs if of == value)


def _title(explorer: Any) -> str:
    """What stands above its sliders."""
    row = explorer.widget.children[0]
    return re.sub(r"<b>(.*?)</b>.*", r"\1", row.children[0].children[0].value, flags=re.DOTALL)


def _start(defaults: Mapping[str, Any], key: str, stops: Sequence[Any], shares: Mapping[str, str]) -> int:
    """The stop at which a control begins: the explorer's own first value."""
    value = defaults[key] / defaults[shares[key]] if key in shares else defaults[key]
    near = [
        i for i, stop in enumerate(stops) if stop == value or (not isinstance(stop, str) and abs(stop - value) < 1e-9)
    ]
    if not near:
        raise ValueError(f"stops of {key} must hold the explorer's first value {value}, got {list(stops)}")
    return near[0]


def frames(app: Sphinx) -> None:
    """Draw what is not drawn yet, and add it to the site."""
    from diffnotes import load_images

    made_of = [path.read_bytes() for path in sorted([*PACKAGE.rglob("*.py"), Path(__file__)])]
    code = b"".join([*made_of, load_images("auto").x[0].numpy().tobytes()])
    kept = Path(__file__).parent / "_build" / "frames"
    folder = kept / hashlib.sha256(code).hexdigest()[:16] / "frames"
    for old in kept.glob("*"):
        if old != folder.parent:
            shutil.rmtree(old)
    for name in PAGES:
        if not (folder / f"{name}.js").exists():
            draw(name, folder)
    app.config.html_static_path.append(str(folder.parent))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", frames)
    app.add_js_file("frames.js", defer="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
