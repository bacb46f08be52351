"""Runs are killed with SIGKILL while they save, in processes of their own, and must go on as if nothing had been."""

import subprocess
import sys
from pathlib import Path

import pytest

from diffnotes import Trainer
from diffnotes.training.run_folder import LOCK

LIVES = 100
POINTS = ("half written", "written, not flushed", "flushed, not renamed", "renamed")

# Started once. For every point it starts a process that trains (the run of the fixture make_trainer(20)), saves after
# update 4, and is killed at that point of the save after update 7. Then a run that saves all the time is killed a
# hundred times, at random moments of training and saving, and goes on each time.
KILLER = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer, UNet, load_images
from diffnotes.training import checkpoint

folder, network, config, loss, points, lives = sys.argv[1], *map(eval, sys.argv[2:])
digits = load_images("digits")
images = Images(digits.x[:20], digits.y[:20], digits.name, digits.source)

def begin():
    torch.manual_seed(5)
    return Trainer(UNet(**network), Denoising(Schedule.cosine(20), **loss), images, TrainConfig(**config))

def kill(work):
    "Have another process do the work; kill it a random moment after it has called the function it is given."
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            work(lambda: os.write(writing, b"."))
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b".", "it ended before it could be killed"
    os.close(reading)
    time.sleep(random.uniform(0, 0.1))
    os.kill(process, signal.SIGKILL)
    assert os.waitpid(process, 0)[1] == signal.SIGKILL

def saves_and_waits(point):
    def work(ready):
        def wait(*_):
            ready()
            time.sleep(100)

        class HalfWritten:
            def __init__(self, *arguments):
                self.file = open(*arguments)
            def __enter__(self):
                return self
            def __exit__(self, *_):
                pass
            def write(self, content):
                self.file.write(content[: len(content) // 2])
                self.file.flush()
                wait()

        trainer, replace = begin(), os.replace
        for state in trainer.steps(updates=12):
            if state.update == 4:
                trainer.save(f"{folder}/{point}")
            if state.update == 7:
                if point == "half written":
                    checkpoint.open = HalfWritten
                if point == "written, not flushed":
                    os.fsync = wait
                if point == "flushed, not renamed":
                    os.replace = wait
                if point == "renamed":
                    os.replace = lambda source, target: (replace(source, target), wait())
                trainer.save(f"{folder}/{point}")
    return work

def saves_in_a_loop(ready):
    trainer = Trainer.load(f"{folder}/loop", images) if os.path.exists(f"{folder}/loop") else begin()
    for number, state in enumerate(trainer.steps(updates=1_000_000)):
        for _ in range(3):
            trainer.save(f"{folder}/loop")
        if number == 0:
            ready()

begin()  # what it imports is there for all the others
random.seed(0)
for point in points:
    kill(saves_and_waits(point))
for life in range(lives):
    kill(saves_in_a_loop)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory, child_environment, small_run) -> Path:
    """The folder with the runs that were killed: one for every point, and "loop"."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = [str(folder), *map(repr, small_run), repr(POINTS), repr(LIVES)]
    command = [sys.executable, "-W", "ignore", "-c", KILLER, *arguments]
    done = subprocess.run(command, check=False, env=child_environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def without_interruption(trainer: Trainer, updates: int, budget: int) -> Trainer:
    for state in trainer.steps(updates=budget):
        if state.update == updates:
            break
    return trainer


@pytest.mark.parametrize("point", POINTS)
def test_run_killed_while_it_saved_goes_on_bit_by_bit(killed, point, make_trainer, few, run_of, same_run):
    folder = killed / point
    trainer = Trainer.load(folder, few(20))
    assert trainer.update == (7 if point == "renamed" else 4)  # the new one or the one before, nothing in between
    assert len(list(folder.glob("*.tmp"))) == (0 if point == "renamed" else 1)  # so it was killed where it should be
    whole = without_interruption(make_trainer(20), 12, 12)
    same_run(run_of(without_interruption(trainer, 12, 12)), run_of(whole))
    trainer.save(folder)
    assert {path.name for path in folder.iterdir()} == {"checkpoint.safetensors", LOCK}


def test_run_killed_at_random_moments_while_it_saved_in_a_loop_goes_on_bit_by_bit(
    killed, make_trainer, few, run_of, same_run
):
    trainer = Trainer.load(killed / "loop", few(20))
    n = trainer.update
    assert n >= LIVES  # every life added to it, so none was lost
    whole = without_interruption(make_trainer(20), n + 3, 1_000_000)
    same_run(run_of(without_interruption(trainer, n + 3, 1_000_000)), run_of(whole))
