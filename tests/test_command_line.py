import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes import (
    Trainer,
    ddim_sample,
    dpm_solver_sample,
    initial_noise,
    load_images,
    load_model,
    load_pretrained,
)
from diffnotes.__main__ import main
from diffnotes.process.choose import SOLVERS, sample_with
from diffnotes.training import checkpoint, metrics, run_folder
from diffnotes.training.grid import grid_image
from diffnotes.training.loop import TrainingDiverged

SMALL = ["--data", "digits", "--T", "20", "--channels", "8", "--multipliers", "1", "--attention", "0", "--patch", "4"]
SMALL += ["--batch-size", "8", "--precision", "float32"]

TRAIN_DEFAULTS = {
    "--resume": "False", "--seconds": "180.0", "--save-every": "60.0", "--data": "auto", "--schedule": "cosine",
    "--T": "1000", "--target": "v", "--labels": "False", "--input-mean": "False", "--channels": "32",
    "--multipliers": "[1, 2]", "--blocks": "1",
    "--attention": "1", "--patch": "2", "--batch-size": "32", "--min-snr": "5.0", "--optimizer": "muon",
    "--learning-rate": "0.003", "--warmup": "100", "--label-dropout": "0.1",
    "--ema-decay": "0.998", "--precision": "auto", "--seed": "0", "--updates": None,
    "--images": None, "--size": None, "--image-channels": None, "--start-from": None, "--logit-normal": None,
}  # fmt: skip
MEASURE_DEFAULTS = {
    "--data": "auto",
    "--number": "2000",
    "--solver": None,
    "--steps": None,
    "--eta": "0.0",
    "--labels": "False",
    "--guidance": "1.0",
    "--seed": "0",
}
SAMPLE_DEFAULTS = {
    "--out": "samples.png", "--number": "64", "--solver": None, "--steps": None, "--eta": "0.0", "--label": None,
    "--labels": "False", "--guidance": "1.0", "--seed": "0",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small networks are fastest on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No network; the user's cache is somewhere else; file names are meant in the test's own folder."""
    monkeypatch.setenv("DIFFNOTES_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.delenv("DIFFNOTES_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """A run of 12 updates, trained with labels."""
    folder = str(tmp_path_factory.mktemp("run"))
    assert main(["train", "--out", folder, *SMALL, "--labels", "--updates", "12", "--warmup", "2"]) == 0
    return folder


def python(*arguments: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def options_of(help_text: str) -> dict[str, str]:
    """Each option with what the help says about it, in one line."""
    parts = re.split(r"\n  (?=-)", help_text.split("options:")[1])
    return {part.split()[0].rstrip(","): " ".join(part.split()) for part in parts if part.startswith("-")}


# -- help -----------------------------------------------------------------------------------------------------------


def test_python_dash_m_names_the_commands():
    process = python("-m", "diffnotes", "--help")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""
    assert "usage: python -m diffnotes" in output
    assert re.search(r"^ +train +train a U-Net$", output, re.M)
    assert re.search(r"^ +sample +draw images from a run$", output, re.M)
    assert re.search(r"^ +measure +how good are a run's digits\?$", output, re.M)


@pytest.mark.parametrize(
    "command, defaults", [("train", TRAIN_DEFAULTS), ("sample", SAMPLE_DEFAULTS), ("measure", MEASURE_DEFAULTS)]
)
def test_help_tells_every_option_s_default(command, defaults, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    options = options_of(capsys.readouterr().out)
    for option, default in defaults.items():
        said = options[option].partition("(default: ")[2]
        assert said == ("" if default is None else f"{default})"), options[option]
    assert options.keys() - defaults.keys() == ({"-h", "--out"} if command == "train" else {"-h"})


@pytest.mark.parametrize(
    "arguments", [[], ["paint"], ["train"], ["train", "--out", "x", "--data", "cifar"], ["sample"]]
)
def test_unknown_words_are_answered_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and capsys.readouterr().err.startswith("usage: python -m diffnotes")


# -- train ----------------------------------------------------------------------------------------------------------


def test_train_writes_a_run_with_the_settings_given(tmp_path, capsys):
    arguments = "--updates 3 --target x0 --schedule quadratic --labels --learning-rate 0.003 --warmup 4 --ema-decay 0.5 --seed 7"
    assert main(["train", "--out", "runs/mine", *SMALL, *arguments.split()]) == 0
    trainer = Trainer.load(tmp_path / "runs" / "mine")
    config = trainer.config
    assert (config.seed, config.learning_rate, config.warmup, config.ema_decay) == (7, 0.003, 4, 0.5)
    assert (config.batch_size, config.precision, trainer.update, trainer.data.name) == (8, "float32", 3, "digits")
    assert (trainer.schedule.name, trainer.schedule.T) == ("quadratic", 20)
    assert trainer.model.settings == dict(
        channels=8, multipliers=(1,), blocks=1, attention=0, num_classes=10, patch=4, target="x0", image_channels=1
    )
    output = capsys.readouterr().out
    assert "Images(1,500 images of digits" in output and "Schedule(quadratic, T=20" in output
    assert "3 updates" in output and "saved to runs/mine" in output


def test_train_does_what_the_package_does(run):
    saved = Trainer.load(run)
    torch.manual_seed(0)
    model, config = type(saved.model)(**saved.model.settings), saved.config
    trainer = Trainer(model, saved.schedule, load_images("digits"), config)
    for _ in trainer.steps(updates=12):
        pass
    assert [state.loss for state in trainer.history] == [state.loss for state in saved.history]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), saved.model.parameters(), strict=True))


def test_a_run_may_begin_with_the_averaged_weights_of_another(run):
    few = [
        "--data",
        "digits",
        "--updates",
        "2",
        "--batch-size",
        "8",
        "--learning-rate",
        "1e-9",
        "--label-dropout",
        "0.7",
    ]
    assert main(["train", "--out", "tuned", "--start-from", run, *few, "--logit-normal", "0.3", "1"]) == 0
    before, after = Trainer.load(run), Trainer.load("tuned")
    assert (after.update, after.model.settings, after.schedule.T) == (2, before.model.settings, before.schedule.T)
    assert (after.objective.label_dropout, after.objective.logit_normal) == (0.7, (0.3, 1.0))
    for average, weight in zip(before.ema.model.parameters(), after.model.parameters(), strict=True):
        torch.testing.assert_close(weight, average, rtol=0, atol=1e-6)
    moved = [
        not torch.equal(a, b) for a, b in zip(before.model.parameters(), before.ema.model.parameters(), strict=True)
    ]
    assert any(moved)  # the averaged weights are not the others


def test_train_refuses_a_folder_that_holds_a_run_and_leaves_it_alone(run, capsys):
    before = checkpoint.read(run)
    assert main(["train", "--out", run, *SMALL, "--updates", "20"]) == 1
    assert capsys.readouterr().err == (
        f"diffnotes train: --out {run} already holds a run: add --resume to go on with it, or name another folder\n"
    )
    assert checkpoint.read(run)[1] == before[1]


def test_resume_goes_on_with_the_settings_and_images_the_run_was_begun_with(monkeypatch):
    few = ["--updates", "3", "--seed", "4", "--warmup", "2", "--learning-rate", "0.003"]
    assert main(["train", "--out", "run", *SMALL, *few]) == 0
    with monkeypatch.context() as patch:  # MNIST is to be had now, and no word is repeated
        patch.setattr("diffnotes.__main__.load_images", lambda *_: pytest.fail("other images were asked for"))
        assert main(["train", "--out", "run", "--resume", "--updates", "5"]) == 0
    trainer = Trainer.load("run")
    assert (trainer.update, trainer.config.seed, trainer.data.name) == (5, 4, "digits")
    rates = [state.learning_rate for state in trainer.history]
    assert rates[3:] == pytest.approx([0.003 * np.cos(np.pi * n / 10) ** 2 for n in (3, 4)])


def test_resume_without_a_run_says_where_it_looked(tmp_path, capsys):
    assert main(["train", "--out", "nothing", "--resume", "--updates", "5"]) == 1
    assert capsys.readouterr().err == "diffnotes train: there is no checkpoint at nothing/checkpoint.safetensors\n"


def test_train_saves_on_the_way(tmp_path, monkeypatch):
    saved, save = [], Trainer.save
    monkeypatch.setattr(Trainer, "save", lambda self, folder: saved.append(self.update) or save(self, folder))
    assert main(["train", "--out", "often", *SMALL, "--updates", "3", "--save-every", "0"]) == 0
    assert main(["train", "--out", "once", *SMALL, "--updates", "3", "--save-every", "1000"]) == 0
    assert saved == [1, 2, 3, 3, 3]


def test_a_save_that_fails_on_the_way_is_told_and_tried_again(tmp_path, monkeypatch, capsys):
    tries, save = [], Trainer.save

    def full_at_first(self, folder):
        tries.append(self.update)
        if len(tries) < 3:
            raise OSError("No space left on device")
        return save(self, folder)

    monkeypatch.setattr(Trainer, "save", full_at_first)
    assert main(["train", "--out", "run", *SMALL, "--updates", "4", "--save-every", "0"]) == 0
    assert tries == [1, 2, 3, 4, 4]
    assert (
        capsys.readouterr().err.count("could not be saved now, and will be tried again: No space left on device") == 2
    )


def test_a_run_that_diverges_is_saved_with_its_last_good_weights(tmp_path, monkeypatch, capsys):
    update = Trainer._update
    monkeypatch.setattr(
        Trainer, "_update", lambda self, p: update(self, p) if self.update < 3 else _diverge(self.update)
    )
    assert main(["train", "--out", "run", *SMALL, "--updates", "9"]) == 1
    assert "the last good ones" in capsys.readouterr().err and Trainer.load("run").update == 3


def _diverge(update: int):
    raise TrainingDiverged(f"update {update + 1}: the weights are the last good ones")


def test_a_run_that_another_saved_while_this_one_waited_is_not_written_over(tmp_path, monkeypatch, capsys, run):
    """The other trains when this one is started, and has ended when its turn comes."""
    own = run_folder.own

    def late(folder, by, purpose):
        (tmp_path / "late").mkdir()
        shutil.copy(f"{run}/checkpoint.safetensors", tmp_path / "late")
        return own(folder, by, purpose)

    monkeypatch.setattr("diffnotes.__main__.own", late)
    before = checkpoint.read(run)[1]
    assert main(["train", "--out", "late", *SMALL, "--updates", "1"]) == 1
    assert "--out late already holds a run" in capsys.readouterr().err
    assert checkpoint.read(tmp_path / "late")[1] == before


def test_a_run_without_a_schedule_cannot_be_sampled_and_says_so(run, monkeypatch, capsys):
    model, _ = load_model(run)
    monkeypatch.setattr("diffnotes.__main__.load_model", lambda folder: (model, None))
    assert main(["sample", run]) == 1
    said = f"diffnotes sample: {run} must hold a diffusion model, got a UNet that was trained without a schedule\n"
    assert capsys.readouterr().err == said


def test_ctrl_c_saves_what_was_trained_and_resume_goes_on(tmp_path):
    begin = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    begin += "import sys; from diffnotes.__main__ import main; sys.exit(main())"
    process = python("-c", begin, "train", "--out", "run", *SMALL, "--updates", "1000000")
    try:
        seen = ""
        while "loss=" not in seen:
            more = process.stderr.read(1)
            assert more, seen
            seen += more
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors and "saved to run" in output
    tensors, about = checkpoint.read("run")
    done = about["update"]
    assert 1 <= done == about["ema_updates"] == len(tensors["history"])
    assert main(["train", "--out", "run", "--resume", "--updates", str(done + 2)]) == 0
    assert Trainer.load("run").update == done + 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--updates 0", "updates must be an integer >= 1, got 0"),
        ("--seconds -1", "seconds must be a positive number, got -1.0"),
        ("--batch-size 0", "batch_size must be an integer >= 1, got 0"),
        ("--batch-size 1501", "batch_size must be at most the number of images, 1500, got 1501"),
        ("--T 0", "T must be an integer >= 1, got 0"),
        ("--learning-rate -1", "learning_rate must be a positive number, got -1.0"),
        ("--warmup -3", "warmup must be an integer >= 0, got -3"),
        ("--ema-decay 1", "ema_decay must lie in [0, 1), got 1.0"),
        ("--seed -1", "seed must be an integer >= 0, got -1"),
        ("--channels 0", "channels must be at least 1, got 0"),
        ("--attention 5", "attention must be a number of levels from 0 to 1, got 5"),
    ],
)
def test_train_answers_a_bad_value_in_one_line(tmp_path, capsys, arguments, message):
    budget = [] if "--seconds" in arguments else ["--updates", "2"]
    assert main(["train", "--out", "run", *SMALL, *budget, *arguments.split()]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == f"diffnotes train: {message}" and "Traceback" not in error
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_folder_that_cannot_be_made_is_told_before_the_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", "--out", "file/run", *SMALL, "--updates", "1000000000"]) == 1
    assert re.fullmatch(r"diffnotes train: .*file/run.*\n", capsys.readouterr().err)


def test_damaged_mnist_is_told_with_the_ways_out(tmp_path, monkeypatch):
    """In a process of its own: the warning must point to the line that asked for the images."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"not MNIST")
    monkeypatch.setenv("DIFFNOTES_DATA", str(tmp_path))
    process = python("-m", "diffnotes", "train", "--out", "run", "--data", "mnist")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in errors
    warning = f"UserWarning: {tmp_path / 'train-images-idx3-ubyte'} is damaged and not used"
    assert re.search(rf"__main__\.py:\d+: {re.escape(warning)}.*\n +return .*load_images\(", errors)
    assert "diffnotes train: MNIST is not at hand" in errors and "Three ways out:" in errors


def test_damaged_run_is_told_in_one_line(run, tmp_path, capsys):
    (tmp_path / "checkpoint.safetensors").write_bytes((checkpoint.FILE_NAME * 9).encode())
    assert main(["sample", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"diffnotes sample: {tmp_path / 'checkpoint.safetensors'} is damaged and was not loaded")
    assert len(error.splitlines()) == 1


# -- sample ---------------------------------------------------------------------------------------------------------


def picture(run: str, *arguments: str) -> np.ndarray:
    assert main(["sample", run, "--out", "picture.png", "--steps", "5", *arguments]) == 0
    with Image.open("picture.png") as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.array(image)


@pytest.mark.parametrize("number, rows, columns", [(1, 1, 1), (4, 2, 2), (6, 2, 3)])
def test_picture_has_room_for_the_digits_three_times_enlarged(run, number, rows, columns):
    assert picture(run, "--number", str(number)).shape == (3 * (30 * rows - 2), 3 * (30 * columns - 2))


def test_sample_is_64_digits_in_samples_png_unless_told_otherwise(run, tmp_path, capsys):
    assert main(["sample", run, "--steps", "1"]) == 0
    with Image.open(tmp_path / "samples.png") as image:
        assert image.size == (3 * (30 * 8 - 2), 3 * (30 * 8 - 2))
    assert capsys.readouterr().out == "64 images saved to samples.png\n"


@pytest.mark.parametrize("how", [*(["--solver", solver] for solver in SOLVERS), ["--solver", "ddim", "--eta", "1"]])
def test_picture_depends_on_the_seed_and_on_nothing_else(run, how):
    torch.manual_seed(1)
    first = picture(run, *how, "--number", "4", "--seed", "3")
    torch.manual_seed(2)
    assert (picture(run, *how, "--number", "4", "--seed", "3") == first).all()
    assert (picture(run, *how, "--number", "4", "--seed", "4") != first).mean() > 0.2


def test_digit_of_a_picture_does_not_depend_on_how_many_there_are(run):
    one, many = picture(run, "--number", "1"), picture(run, "--number", "9")
    assert np.abs(one.astype(int) - many[: 3 * 28, : 3 * 28]).max() <= 1  # a grey value: batches are summed differently


@pytest.mark.parametrize("how", [["--label", "7"], ["--solver", "ddpm"], ["--eta", "1"], ["--steps", "4"]])
def test_every_option_of_sample_changes_the_picture(run, how):
    usual = ["--number", "4", "--solver", "ddim"]
    assert (picture(run, *usual) != picture(run, *usual, *how)).any()


def test_the_option_that_was_called_sampler_is_called_solver(run, capsys):
    assert (
        picture(run, "--number", "2", "--sampler", "ddpm") == picture(run, "--number", "2", "--solver", "ddpm")
    ).all()
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    assert "--solver" in (said := capsys.readouterr().out) and "--sampler" not in said


@pytest.mark.parametrize(
    ("command", "asked", "solver", "steps"),
    [
        ("sample", [], "sde-dpm++", 19),  # as many as there are times from the noise level 20 on
        ("sample", ["--labels"], "dpm++", 8),
        ("sample", ["--label", "7"], "dpm++", 8),
        ("sample", ["--labels", "--solver", "sde-dpm++"], "sde-dpm++", 19),
        ("sample", ["--solver", "dpm++", "--steps", "3"], "dpm++", 3),
        ("sample", ["--solver", "heun"], "heun", 10),
        ("sample", ["--solver", "ddim"], "ddim", 20),  # T
        ("measure", [], "sde-dpm++", 19),
        ("measure", ["--labels"], "dpm++", 8),
        ("measure", ["--labels", "--solver", "ddpm", "--steps", "4"], "ddpm", 4),
    ],
)
def test_the_solver_and_its_steps_are_the_best_measured_unless_told_otherwise(
    run, monkeypatch, command, asked, solver, steps
):
    seen = set()

    def noted(*given, **how):
        seen.add((how["solver"], how["steps"]))
        return sample_with(*given, **how)

    monkeypatch.setattr("diffnotes.__main__.sample_with", noted)
    monkeypatch.setattr(metrics, "sample_with", noted)
    more = ["--data", "digits"] if command == "measure" else []
    assert main([command, run, "--number", "10", *more, *asked]) == 0
    assert seen == {(solver, steps)}


def test_guidance_changes_what_is_asked_for(run):
    asked = picture(run, "--number", "4", "--label", "7")
    assert (picture(run, "--number", "4", "--label", "7", "--guidance", "1") == asked).all()
    assert (picture(run, "--number", "4", "--label", "7", "--guidance", "3") != asked).any()


def test_labels_in_turn_are_ten_in_a_row(run):
    together = picture(run, "--number", "20", "--labels")
    assert together.shape == (3 * (30 * 2 - 2), 3 * (30 * 10 - 2))
    first_three = picture(run, "--number", "4", "--label", "3")[3 * 30 :, 3 * 30 :]  # number 3 of the noises
    assert np.abs(together[: 3 * 28, 3 * 90 : 3 * 118].astype(int) - first_three).max() <= 1


@pytest.mark.parametrize("name", ["mnist", "mnist-small"])
def test_sample_knows_the_weights_of_the_package_by_name(name):
    model, schedule = load_pretrained(name)
    *_, last = dpm_solver_sample(model, schedule, initial_noise(0, 1), steps=5, y=3)
    wanted = np.array(grid_image(last.x_t, scale=3)).astype(int)
    assert np.abs(picture(name, "--number", "1", "--label", "3") - wanted).max() <= 1


def test_a_run_in_a_folder_of_that_name_comes_before_the_weights_of_the_package(run, tmp_path):
    shutil.copytree(run, tmp_path / "mnist")
    assert (picture("mnist", "--number", "1") == picture(run, "--number", "1")).all()


def test_sample_uses_the_average_and_not_the_last_weights(run):
    model, schedule = load_model(run)
    for frame in ddim_sample(model, schedule, initial_noise(0, 4), steps=5):
        last = frame.x_t
    assert (picture(run, "--number", "4", "--solver", "ddim") == np.array(grid_image(last, scale=3))).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--number 0", "--number must be at least 1, got 0"),
        ("--steps 0", "steps must be an integer from 1 to T = 20, got 0"),
        ("--steps 21", "steps must be an integer from 1 to T = 20, got 21"),
        ("--solver ddim --eta -1", "eta must be >= 0, got -1.0"),
        ("--eta 1", 'eta must be 0 with solver "sde-dpm++", for it belongs to "ddim", got 1.0'),
        ("--labels --eta 1", 'eta must be 0 with solver "dpm++", for it belongs to "ddim", got 1.0'),
        ("--guidance 2", "--guidance must be 1 without --label or --labels, got 2.0"),
        ("--labels --guidance nan", "scale must be a finite number, got nan"),
        (
            "--number 1 --label 11",
            "--label must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got '11'",
        ),
        ("--out picture.unknown", "--out must be the name of a picture, such as samples.png, got picture.unknown"),
    ],
)
def test_sample_answers_a_bad_value_in_one_line(run, capsys, arguments, message):
    assert main(["sample", run, "--steps", "2", *arguments.split()]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == f"diffnotes sample: {message}" and "Traceback" not in error


def test_label_for_a_run_without_labels_is_refused(capsys):
    assert main(["train", "--out", "plain", *SMALL, "--updates", "1"]) == 0
    capsys.readouterr()
    assert main(["sample", "plain", "--label", "3", "--steps", "2"]) == 1
    said = (
        "diffnotes sample: --label and --labels need a network that was trained with --labels, and this one was not\n"
    )
    assert capsys.readouterr().err == said


def test_sample_of_a_run_that_is_not_there_says_where_it_looked(capsys):
    assert main(["sample", "nowhere"]) == 1
    assert capsys.readouterr().err == "diffnotes sample: there is no checkpoint at nowhere/checkpoint.safetensors\n"


# -- measure --------------------------------------------------------------------------------------------------------


def test_measure_tells_the_quality_of_samples_beside_that_of_real_images(run, capsys):
    assert main(["measure", run, "--data", "digits", "--number", "30", "--steps", "3"]) == 0
    real, samples = capsys.readouterr().out.splitlines()
    perfect, others = metrics.held_out(load_images("digits", "test").x, 30)
    assert real == f"real images: {metrics.quality(perfect, others)}"
    drawn = metrics.draw_samples(*load_model(run), 30, solver="sde-dpm++", steps=3)
    assert samples == f"samples:     {metrics.quality(drawn, others)}"


@pytest.mark.parametrize(
    "how", [["--labels"], ["--seed", "5"], ["--steps", "4"], ["--eta", "1"], ["--solver", "dpm++"]]
)
def test_every_option_of_measure_changes_the_samples(run, how, capsys, monkeypatch):
    monkeypatch.setattr(
        metrics, "quality", lambda x, real: f"{x.double().sum():.9f}"
    )  # a short run's digits are all alike

    def samples(*more: str) -> str:
        usual = ["--data", "digits", "--number", "30", "--steps", "3", "--solver", "ddim"]
        assert main(["measure", run, *usual, *more]) == 0
        return capsys.readouterr().out.splitlines()[1]

    assert samples(*how) != samples()


def test_measure_guides_the_samples(run, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "quality", lambda x, real: f"{x.double().sum():.9f}")
    found = []
    for scale in ("1", "3"):
        how = ["--data", "digits", "--number", "30", "--steps", "3", "--labels", "--guidance", scale]
        assert main(["measure", run, *how]) == 0
        found.append(capsys.readouterr().out.splitlines()[1])
    assert found[0] != found[1]


@pytest.mark.parametrize("name", ["mnist", "mnist-small"])
def test_measure_knows_the_weights_of_the_package_by_name(name, capsys):
    assert main(["measure", name, "--data", "digits", "--number", "10", "--steps", "1"]) == 0
    assert "from 10 samples" in capsys.readouterr().out


def test_measure_answers_a_bad_value_in_one_line(run, capsys):
    assert main(["measure", run, "--number", "9"]) == 1
    assert capsys.readouterr().err == "diffnotes measure: --number must be at least 10, got 9\n"
    assert main(["measure", run, "--data", "digits", "--number", "10", "--guidance", "2"]) == 1
    assert (
        capsys.readouterr().err
        == "diffnotes measure: guidance must be 1 without labels, which it leans towards, got 2.0\n"
    )
