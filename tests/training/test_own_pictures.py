"""A folder of colour pictures of one's own, from README's own lines: trained, killed, resumed, stopped, sampled and shown."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from diffnotes import Trainer, ddim_sample, initial_noise, load_images, load_model
from diffnotes.training.grid import grid_image
from diffnotes.training.restore import class_names_of, item_shape_of
from diffnotes.training.run_folder import owner_of

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
COLOURS = {"bird": (220, 40, 40), "cat": (40, 200, 60), "dog": (50, 80, 230)}
SMALL = [
    "--channels",
    "8",
    "--multipliers",
    "1",
    "--attention",
    "0",
    "--patch",
    "4",
    "--T",
    "100",
    "--batch-size",
    "16",
]


def readme(beginning: str) -> list[str]:
    """The words of README's command that begins so."""
    (line,) = re.findall(rf"^python -m (diffnotes {beginning}.*?)\s*(?:#.*)?$", README, re.MULTILINE)
    return shlex.split(line)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home folder with pets: discs of one colour for each kind, in sizes and formats of all sorts."""
    home = tmp_path_factory.mktemp("home")
    dice = np.random.default_rng(0)
    for kind, colour in COLOURS.items():
        (home / "pets" / kind).mkdir(parents=True)
        for i in range(30):
            width, height = (int(side) for side in dice.integers(40, 90, 2))
            picture = Image.new("RGB", (width, height), (250, 250, 250))
            x, y, r = width // 2, height // 2, int(dice.integers(10, 18))
            ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=colour)
            picture.save(home / "pets" / kind / f"{i}.{('png', 'jpg', 'webp')[i % 3]}")
    return home


@pytest.fixture(scope="module")
def start(home, child_environment):
    """start(words): that command in a folder beside the pictures; ~ is their folder."""
    (home / "work").mkdir()

    started = []

    def start(words: list[str]) -> subprocess.Popen:
        words = [word.replace("~", str(home)) for word in words]  # as a shell does
        said = open(home / f"said-{len(started)}.txt", "w+")  # noqa: SIM115 (a file: a pipe that nobody reads would fill)
        command = [sys.executable, "-W", "ignore", "-m", *words]
        process = subprocess.Popen(command, cwd=home / "work", env=child_environment, stdout=said, stderr=said)
        process.said = said
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.said.close()


def said_by(process: subprocess.Popen) -> str:
    process.said.flush()
    return Path(process.said.name).read_text()


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """What it said, once it has ended with this code."""
    assert process.wait(timeout=120) == code, said_by(process)
    return said_by(process)


def wait_for(process: subprocess.Popen, ready) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, said_by(process)
        time.sleep(0.01)


def updates_saved(run: Path) -> int:
    return len(Trainer.load(run).history) if (run / "checkpoint.safetensors").exists() else 0


@pytest.fixture(scope="module")
def run(home, start) -> Path:
    """README's first line, killed after its first saves; then its second line, stopped with Ctrl-C; both made small."""
    run = home / "work" / "runs" / "pets"
    train = [*readme("train --images ~/pets"), *SMALL, "--save-every", "0.05", "--warmup", "10"]
    first = start(train)
    wait_for(first, lambda: updates_saved(run) >= 5)
    told = finish(start(train), code=1)  # the same folder, while the first is at it
    assert "already holds a run" in told or re.search(r"is in use: training .* \(\d+ on ", told)
    first.send_signal(signal.SIGKILL)
    first.wait()
    saved = updates_saved(run)
    assert saved >= 5 and owner_of(run) is None

    resumed = start([*readme("train --out runs/pets --resume"), "--save-every", "0.05"])
    wait_for(resumed, lambda: updates_saved(run) > saved + 100)
    told = finish(start(readme("train --out runs/pets --resume")), code=1)
    assert re.search(
        rf"is in use: training from the command line, by process \({resumed.pid} on .*: stop that one, or take another folder",
        told,
    )
    resumed.send_signal(signal.SIGINT)
    assert "saved to runs/pets" in finish(resumed)
    assert updates_saved(run) > saved + 100
    return run


def test_the_run_knows_its_pictures_and_their_labels(run, home):
    model, _ = load_model(run)
    assert item_shape_of(model) == (3, 32, 32) and class_names_of(model) == ("bird", "cat", "dog")
    images = load_images(home / "pets", size=32)
    assert torch.equal(Trainer.load(run).data.x, images.x)  # found again by the name and the size in the checkpoint


def test_the_run_goes_on_as_if_it_had_never_been_killed(run, home, monkeypatch):
    """An uninterrupted run of the same seed has the same losses, as long as the learning rate only rises: it depends on the
    budget in seconds afterwards."""
    saved = Trainer.load(run)
    assert len({state.update for state in saved.history}) == len(saved.history) == saved.update
    torch.manual_seed(0)
    again = Trainer(type(saved.model)(**saved.model.settings), saved.objective, saved.data, saved.config)
    losses = [state.loss for state, _ in zip(again.steps(seconds=1800.0), range(3), strict=False)]
    assert [state.loss for state in saved.history[:3]] == pytest.approx(losses, rel=1e-3)


def test_samples_of_a_label_are_a_picture_in_colour(run, home, start):
    assert "64 images saved to cats.png" in finish(start([*readme("sample runs/pets --label cat"), "--steps", "10"]))
    with Image.open(home / "work" / "cats.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (3 * (8 * 34 - 2),) * 2)
    assert "saved to all.png" in finish(start([*readme("sample runs/pets --labels"), "--steps", "5"]))
    with Image.open(home / "work" / "all.png") as picture:
        assert picture.size[0] == 3 * (3 * 34 - 2)  # a column for each label


def test_a_label_is_asked_for_by_name_or_by_number_and_no_other(run, home, start):
    command = ["diffnotes", "sample", "runs/pets", "--number", "4", "--steps", "5", "--out"]
    for label in ("cat", "1"):
        finish(start([*command, f"{label}.png", "--label", label]))
    with Image.open(home / "work" / "cat.png") as a, Image.open(home / "work" / "1.png") as b:
        assert np.array_equal(np.asarray(a), np.asarray(b))
    assert finish(start([*command, "no.png", "--label", "cow"]), code=1).splitlines()[-1] == (
        "diffnotes sample: --label must be one of bird, cat, dog, got 'cow'"
    )


def test_measure_says_that_it_judges_digits_only(run, start):
    process = start(["diffnotes", "measure", "runs/pets", "--number", "10", "--data", "digits"])
    assert finish(process, code=1).splitlines()[-1] == (
        "diffnotes measure: measure judges with a classifier of handwritten digits, 1 x 28 x 28; this network draws 3 x 32 x 32"
    )


def test_a_resumed_run_whose_pictures_are_gone_says_what_to_do(run, home, start):
    os.rename(home / "pets", home / "moved")
    try:
        told = finish(start(readme("train --out runs/pets --resume")), code=1)
        assert "Traceback" not in told
        assert re.search(r"was trained on \d+ images of '.*pets', which cannot be loaded here", told)
        # it has had more updates than one: it saves, and ends
        go_on = ["diffnotes", "train", "--out", "runs/pets", "--resume", "--updates", "1"]
        assert "saved to runs/pets" in finish(start([*go_on, "--images", "~/moved", "--size", "32"]))
    finally:
        os.rename(home / "moved", home / "pets")


def test_learned_colours_are_those_of_the_labels(home):
    """150 updates on discs of three colours: what is drawn for a label has its colour in the middle."""
    images = load_images(home / "pets", size=32)
    torch.manual_seed(0)
    from diffnotes import Denoising, Schedule, TrainConfig, UNet

    model = UNet(16, (1, 2), 1, 0, num_classes=3, patch=4, target="v", image_channels=3)
    config = TrainConfig(batch_size=16, warmup=10, learning_rate=5e-3, ema_decay=0.95, precision="float32")
    trainer = Trainer(model, Denoising(Schedule.cosine(100)), images, config)
    for _ in trainer.steps(updates=150):
        pass
    y = torch.arange(24) % 3
    *_, last = ddim_sample(trainer.ema.model, trainer.schedule, initial_noise(0, 24, (3, 32, 32)), steps=20, y=y)
    middle = last.x_t[:, :, 13:19, 13:19].mean((2, 3))
    strongest = middle.argmax(1)  # red for birds, green for cats, blue for dogs
    assert (strongest == y).double().mean() > 0.8
    assert grid_image(last.x_t, columns=6).mode == "RGB"
