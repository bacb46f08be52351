"""python -m benchmarks [SECTION ...]: measure (all sections unless named) into docs/benchmarks/results.json, and write
docs/benchmarks.md and its figures from it. python -m benchmarks --render: only write them again."""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import ablation, latents, portrait, quality, relatives, report, speed, steps, transformers
from benchmarks.measure import Budget, machine
from diffnotes import load_images

DOCS = Path(__file__).resolve().parents[1] / "docs"
SECTIONS: dict[str, Callable[[Budget], dict[str, Any]]] = {
    "throughput": speed.throughput,
    "quality": lambda budget: quality.measure(budget, load_images("mnist", "train"), load_images("mnist", "test")),
    "steps": lambda budget: steps.measure(budget, load_images("mnist", "test")),
    "ablation": lambda budget: ablation.measure(budget, load_images("mnist", "train"), load_images("mnist", "test")),
    "relatives": lambda budget: relatives.measure(budget, load_images("mnist", "train"), load_images("mnist", "test")),
    "transformers": lambda budget: transformers.measure(
        budget, load_images("mnist", "train"), load_images("mnist", "test")
    ),
    "latents": lambda budget: latents.measure(budget, load_images("mnist", "train"), load_images("mnist", "test")),
    "portrait": lambda budget: portrait.measure(budget, load_images("mnist", "train"), load_images("mnist", "test")),
    "cost": speed.cost,
    "sampling": speed.sampling,
    "start": speed.start,
    "gpu": lambda budget: speed.gpu(budget, load_images("mnist", "train")),
}


def measure_into(path: Path, sections: list[str], budget: Budget, trial: bool = False) -> dict[str, Any]:
    """Measure the sections and put each, with its date, machine and settings, into the JSON file at `path`, where the
    other sections stay as they are. Returns all that is in the file now."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in sections:
        print(f"{name} ...", flush=True)
        where, started = machine(), time.perf_counter()
        data = SECTIONS[name](budget)
        results[name] = {
            "trial": trial,
            "command": f"python -m benchmarks {name}",
            "machine": where,
            "settings": dataclasses.asdict(budget),
            "took_seconds": time.perf_counter() - started,
            "data": data,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {results[name]['took_seconds']:.0f} s", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))  # with lists for tuples: what --render will see


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all if none is named")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, write page and figures from the JSON file"
    )
    parser.add_argument("--trial", action="store_true", help="a run of a minute or two, to see that everything works")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder to write to")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.sections) - set(SECTIONS):
        parser.error(f"sections must be of {', '.join(SECTIONS)}, got {', '.join(sorted(unknown))}")
    path = chosen.docs / "benchmarks" / "results.json"
    if chosen.render:
        results = json.loads(path.read_text(encoding="utf-8"))
    else:
        budget = TRIAL if chosen.trial else Budget()
        results = measure_into(path, chosen.sections or list(SECTIONS), budget, chosen.trial)
    (chosen.docs / "benchmarks.md").write_text(report.render(results), encoding="utf-8")
    report.figures(results, chosen.docs / "benchmarks")


TRIAL = Budget(
    names=("ours", "course", "ours_like_course", "ddpm_pytorch"), batch=8, rounds=3, at_least=0.0, matmul=(256, 512),
    own=(2, 4), seeds=2, marks=(1,), samples=16, steps=3,
    many=32, portrait={"1": 2, "3": 3}, portrait_samples=40, race=2, race_images=4, race_samples=8, ablation_updates=3,
    runs=("base", "base_seed_2", "adamw", "eps_linear", "no_labels"),
    bits_images=4, batches=(4, 8), channels=(16, 32), sides=(28, 56), sampling_steps=(5, 20),
)  # fmt: skip

if __name__ == "__main__":
    main()
