"""The memory of one training step, measured in a process of its own: python -m benchmarks.memory NAME BATCH."""

import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import measure, networks

ROOT = Path(__file__).resolve().parents[1]
STATUS = Path("/proc/self/status")


def of_a_step(name: str, batch: int) -> float:
    """MiB by which the peak of a fresh process rises over what it holds at rest, when `name` makes one update of `batch`
    images after one of a single image, so that weights, gradients and the optimiser's state are at rest already."""
    command = [sys.executable, "-m", "benchmarks.memory", name, str(batch)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak_and_now() -> tuple[float, float]:
    """The highest and the present resident memory of this process, in MiB (elsewhere than on Linux, twice the highest)."""
    if STATUS.exists():  # not getrusage: its peak includes that of the process that started this one
        lines = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10, int(lines["VmRSS"].split()[0]) / 2**10
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return highest, highest


def _measure(name: str, batch: int) -> float:
    model = networks.build(name)
    optimizer = torch.optim.AdamW(model.parameters())
    for number in (1, batch):
        _, before = peak_and_now()
        measure.training_step(model, *measure.batch_of(number))
        optimizer.step()
    return peak_and_now()[0] - before


if __name__ == "__main__":
    print(_measure(sys.argv[1], int(sys.argv[2])))
