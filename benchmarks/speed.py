"""Everything that is a matter of seconds: throughput, cost against size, sampling, start, and the same on a GPU."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import memory, networks
from benchmarks.measure import Budget, batch_of, interleaved, quotients, spread, training_step
from diffnotes import Images, Schedule, UNet, initial_noise, load_pretrained
from diffnotes.process.choose import sample_with
from diffnotes.process.losses import simple_loss

ROOT = Path(__file__).resolve().parents[1]


def throughput(budget: Budget) -> dict[str, Any]:
    """Images a second forward, and forward and backward, for every network; the matrix products that the machine can do
    at best; parameters, operations and memory."""
    x, t = batch_of(budget.batch)
    models = {name: networks.build(name) for name in budget.names}
    calls: dict[str, Callable[[], object]] = {}
    for side in budget.matmul:
        a, b = torch.randn(side, side), torch.randn(side, side)
        calls[f"matmul {side}"] = partial(torch.matmul, a, b)
    for name, model in models.items():
        calls[f"forward {name}"] = partial(_forward, model, x, t)
        calls[f"step {name}"] = partial(training_step, model, x, t)
    times = interleaved(calls, budget.rounds, budget.at_least)

    products = {side: [2 * side**3 / s / 1e9 for s in times[f"matmul {side}"]] for side in budget.matmul}
    best = max(products, key=lambda side: spread(products[side])["median"])
    rows = {}
    for name, model in models.items():
        row: dict[str, Any] = {
            "parameters": networks.parameters(model),
            "memory_mib": memory.of_a_step(name, budget.batch),
        }
        for kind in ("forward", "step"):
            each = networks.flops(model, backward=kind == "step")
            row[kind] = {
                "flops": each,
                "images_per_second": spread([budget.batch / s for s in times[f"{kind} {name}"]]),
                "gflops": spread([budget.batch * each / s / 1e9 for s in times[f"{kind} {name}"]]),
                "ours_is_faster": quotients(times[f"{kind} {name}"], times[f"{kind} {budget.names[0]}"]),
            }
            twin = networks.TWINS.get(name)
            if twin in budget.names:
                row[kind]["twin_is_faster"] = quotients(times[f"{kind} {name}"], times[f"{kind} {twin}"])
        rows[name] = row
    return {"batch": budget.batch, "peak": {"side": best, "gflops": spread(products[best])}, "networks": rows}


@torch.no_grad()
def _forward(model: torch.nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return model(x, t)


def cost(budget: Budget) -> dict[str, Any]:
    """Seconds of one update of our network against batch, channels and side of the image, and of sampling 16 images
    against DDIM steps; and the slopes in log-log paper."""
    schedule = Schedule.cosine(T=1000)
    model = networks.ours()
    settings = {key: value for key, value in model.settings.items() if key != "channels"}
    calls: dict[str, Callable[[], object]] = {}
    for batch in budget.batches:
        calls[f"batch {batch}"] = _update(networks.ours(), schedule, batch)
    for channels in budget.channels:
        calls[f"channels {channels}"] = _update(UNet(channels=channels, **settings), schedule, budget.batch)
    for side in budget.sides:
        calls[f"side {side}"] = _update(networks.ours(), schedule, budget.batch, side)
    for steps in budget.sampling_steps:
        calls[f"steps {steps}"] = partial(_draw, model, schedule, initial_noise(0, 16), "ddim", steps)
    times = interleaved(calls, budget.rounds, budget.at_least)

    curves = {}
    axes = {"batch": budget.batches, "channels": budget.channels, "side": budget.sides, "steps": budget.sampling_steps}
    for axis, values in axes.items():
        points = [spread(times[f"{axis} {value}"]) for value in values]
        slope = np.polyfit(np.log(values), np.log([point["median"] for point in points]), 1)[0]
        curves[axis] = {"at": list(values), "seconds": points, "slope": float(slope)}
    return {"batch": budget.batch, "channels": model.settings["channels"], "curves": curves}


def _update(model: UNet, schedule: Schedule, batch: int, side: int = 28) -> Callable[[], None]:
    """A function that makes one update: loss, gradient, clipping, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    x0, t = batch_of(batch, side)
    eps = torch.randn_like(x0)

    def update() -> None:
        optimizer.zero_grad()
        simple_loss(model, schedule, x0, t, eps).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return update


def _draw(
    model: torch.nn.Module, schedule: Schedule, x_T: torch.Tensor, solver: str, steps: int, eta: float = 0.0
) -> torch.Tensor:
    """The images at the end of so many steps of a solver."""
    return list(sample_with(model, schedule, x_T, solver=solver, steps=steps, eta=eta))[-1].x_t


def sampling(budget: Budget, number: int = 64) -> dict[str, Any]:
    """Seconds for `number` digits from the network that comes with the package, by the sampler of the budget."""
    model, schedule = load_pretrained("mnist")
    call = partial(_draw, model, schedule, initial_noise(0, number), budget.solver, budget.steps)
    draws = 5 * budget.rounds  # about a minute of them: what shares the machine comes and goes
    seconds = spread(interleaved({"draw": call}, draws)["draw"])
    return {
        "number": number, "solver": budget.solver, "steps": budget.steps, "parameters": networks.parameters(model),
        "seconds": seconds,
    }  # fmt: skip


def start(budget: Budget) -> dict[str, Any]:
    """Seconds that a fresh interpreter takes to import torch, and to import diffnotes (torch included); the wheel's size."""
    calls = {name: partial(_python, f"import {name}") for name in ("torch", "diffnotes")}
    times = interleaved({"nothing": partial(_python, "pass"), **calls}, budget.rounds)
    size, problem = _wheel()
    return {
        "seconds": {name: spread(values) for name, values in times.items()},
        "more_than_torch": spread([a - b for a, b in zip(times["diffnotes"], times["torch"], strict=True)]),
        "wheel_bytes": size,
        "wheel_problem": problem,
    }


def _wheel() -> tuple[int | None, str | None]:
    """The bytes of the package's wheel; or None, and why it could not be built (offline, say: the build needs hatchling)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)]
        built = subprocess.run(command, check=False, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        return (wheels[0].stat().st_size, None) if wheels else (None, built.stderr.strip().splitlines()[-1])


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def gpu(budget: Budget, train: Images, batch: int = 512) -> dict[str, Any]:
    """For every network compiled, in bfloat16, channels last: seconds of one epoch, and samples a second. Where there is
    no CUDA, only the sentence that says so."""
    if not torch.cuda.is_available():
        return {"skipped": "This machine has no CUDA device, so nothing was measured on one."}
    schedule, device = Schedule.cosine(T=1000), torch.device("cuda")
    x = train.x.to(device)
    rows = {}
    for name in budget.names:
        model = networks.build(name).to(device, memory_format=torch.channels_last)
        fast = torch.compile(model)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

        def epoch(updates: int, fast: Any = fast, optimizer: torch.optim.Optimizer = optimizer) -> float:
            order = torch.randperm(len(x))[: updates * batch].reshape(updates, batch)
            torch.cuda.synchronize()
            started = time.perf_counter()
            for index in order:
                x0 = x[index.to(device)].contiguous(memory_format=torch.channels_last)
                t = torch.randint(1, schedule.T + 1, (batch,))  # on the CPU, like the schedule's tables
                with torch.autocast("cuda", torch.bfloat16):
                    loss = simple_loss(fast, schedule, x0, t, torch.randn_like(x0)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            torch.cuda.synchronize()
            return time.perf_counter() - started

        def draw(fast: Any = fast) -> float:
            x_T = initial_noise(0, batch).to(device, memory_format=torch.channels_last)
            torch.cuda.synchronize()
            started = time.perf_counter()
            with torch.autocast("cuda", torch.bfloat16):
                _draw(fast, schedule, x_T, budget.solver, budget.steps)
            torch.cuda.synchronize()
            return time.perf_counter() - started

        epoch(3)  # compiles
        seconds = epoch(len(x) // batch)
        draw()
        rate = spread([batch / draw() for _ in range(3)])
        rows[name] = {"epoch_seconds": seconds, "samples_per_second": rate}
    return {"batch": batch, "solver": budget.solver, "steps": budget.steps, "networks": rows}
