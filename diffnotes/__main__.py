"""The command line. The book: python -m diffnotes lab, python -m diffnotes export ...; long runs: python -m diffnotes train ...,
python -m diffnotes sample ..., python -m diffnotes measure ...

On several GPUs, or several processes on the CPU: torchrun --nproc_per_node 2 -m diffnotes train ..."""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from diffnotes import (
    Denoising,
    Images,
    Schedule,
    TrainConfig,
    Trainer,
    UNet,
    initial_noise,
    load_images,
    load_model,
    load_pretrained,
)
from diffnotes.process.choose import SOLVERS, USUAL_STEPS, sample_with, usual_solver, usual_steps
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.training import checkpoint
from diffnotes.training.checkpoint import FILE_NAME
from diffnotes.training.interrupts import defer_interrupts
from diffnotes.training.loop import TrainingDiverged
from diffnotes.training.pretrained import WEIGHTS
from diffnotes.training.restore import class_names_of, item_shape_of
from diffnotes.training.run_folder import own

SCHEDULES = {
    "linear": Schedule.linear,
    "quadratic": Schedule.quadratic,
    "sigmoid": Schedule.sigmoid,
    "cosine": Schedule.cosine,
}

FIRST_CHAPTER = "00_start_here.ipynb"
RUN = 'folder of the run, or "mnist" or "mnist-small" for weights of the package'
STEPS = (
    f"sampling steps; unless given, {', '.join(f'{steps} with {solver}' for solver, steps in USUAL_STEPS.items())}, or as many "
    "as there are times if that is fewer. A step is one call of the network, with heun two"
)
GUIDANCE = "scale of classifier-free guidance; 1: none. Above, digits are more typical of their label, and more alike"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it went well, 1 with a one-line reason when not."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, RuntimeError, TrainingDiverged) as error:
        print(f"diffnotes {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def lab(options: argparse.Namespace) -> None:
    """Copy the book's notebooks into a folder of your own, and open them in JupyterLab. What you have run or edited there is
    never written over: run it again to go on, also with a newer edition of the package, whose text of such a chapter is put
    beside yours."""
    from diffnotes.book.lab import start
    from diffnotes.book.lab.copies import copy_book

    copied = copy_book(options.folder)
    print(f"The book is in {options.folder}.")
    for said, names in (
        ("brought up to this edition", copied.updated),
        ("kept as you have them", copied.kept),
        ("their text in this edition", copied.beside),
    ):
        if names:
            print(f"{said}: {', '.join(names)}")
    if options.copy_only:
        return
    more = [FIRST_CHAPTER]
    more += ["--no-browser"] if options.no_browser else []
    more += [] if options.port is None else [f"--port={options.port}"]
    sys.stdout.flush()
    status = start(*more, folder=options.folder)
    if status:
        raise RuntimeError(f"JupyterLab ended with status {status}")


def export(options: argparse.Namespace) -> None:
    """Write a chapter that was run as one HTML file with its pictures and formulas in it, to be read offline, sent and
    printed."""
    from diffnotes.book.press.export import write

    for path in write(options.notebooks, options.out, run=options.run_first):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def train(options: argparse.Namespace) -> None:
    """Train a U-Net, or go on with a run, saving every --save-every seconds and at the end."""
    _check_empty(options)
    if options.resume:
        checkpoint.read(options.out)  # no folder is made where there is nothing to go on with
    with contextlib.ExitStack() as stack:
        ownership = None
        if int(os.environ.get("RANK", "0")) == 0:  # of several processes, the one that saves
            ownership = stack.enter_context(own(options.out, by=None, purpose="training from the command line"))
            _check_empty(options)  # once more, for another may have saved a run there while we waited
        trainer = Trainer.load(options.out, data=_images(options)) if options.resume else _trainer(options)
        if ownership is not None:
            ownership.by = trainer
        _train(trainer, options)


def _check_empty(options: argparse.Namespace) -> None:
    if (Path(options.out) / FILE_NAME).exists() and not options.resume:
        raise ValueError(
            f"--out {options.out} already holds a run: add --resume to go on with it, or name another folder"
        )


def _images(options: argparse.Namespace) -> Images | None:
    """The images that --images or --data names; None with --resume, unless --images names them: those it was begun with."""
    if options.images is not None:
        return load_images(options.images, "train", size=options.size, channels=options.image_channels)
    if options.size is not None or options.image_channels is not None:
        raise ValueError("--size and --image-channels are for pictures of your own: name their folder with --images")
    return None if options.resume else load_images(options.data, "train")


def _trainer(options: argparse.Namespace) -> Trainer:
    """A new run with these options."""
    images = _images(options)
    assert images is not None
    torch.manual_seed(options.seed)  # the first weights
    if options.start_from is None:
        schedule = SCHEDULES[options.schedule](options.T)
        model = UNet(
            channels=options.channels,
            multipliers=options.multipliers,
            blocks=options.blocks,
            attention=options.attention,
            patch=options.patch,
            num_classes=images.num_classes if options.labels else None,
            target=options.target,
            image_channels=images.item_shape[0],
            input_mean=schedule.alpha_bar.sqrt() * images.x.mean() if options.input_mean else None,
        )
    else:
        model, schedule = _network(options.start_from)
        model = model.to(memory_format=torch.contiguous_format).train().requires_grad_(True)
    objective = Denoising(
        schedule,
        min_snr=options.min_snr or None,
        label_dropout=options.label_dropout,
        logit_normal=options.logit_normal and tuple(options.logit_normal),
    )
    config = TrainConfig(
        seed=options.seed,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        warmup=options.warmup,
        ema_decay=options.ema_decay,
        precision=options.precision,
    )
    return Trainer(model, objective, images, config)


def _train(trainer: Trainer, options: argparse.Namespace) -> None:
    main_process, processes = trainer.accelerator.is_main_process, trainer.accelerator.num_processes
    if main_process:
        parameters = sum(p.numel() for p in trainer.model.parameters())
        print(f"{trainer.data}\n{trainer.schedule}\nU-Net with {parameters:,} parameters, {processes} process(es)")

    before, in_updates = trainer.update, options.updates is not None
    budget = {"updates": options.updates} if in_updates else {"seconds": options.seconds}
    saved = time.monotonic()
    bar = tqdm(total=options.updates or options.seconds, disable=not main_process, unit="update" if in_updates else "s")
    with bar, defer_interrupts():  # Ctrl-C ends the training after an update, and never a save
        try:
            for state in trainer.steps(**budget):
                bar.n = state.update if in_updates else round(min(state.seconds, options.seconds))
                bar.set_postfix(loss=f"{state.loss:.4f}", images=state.images, refresh=False)
                bar.refresh() if state.progress >= 1 else bar.update(0)
                if trainer.agree(time.monotonic() - saved > options.save_every):
                    _save_on_the_way(trainer, options.out)
                    saved = time.monotonic()
        except TrainingDiverged:
            trainer.save(options.out)  # the last good weights
            raise
        path = trainer.save(options.out)
    if main_process and trainer.update == before:
        print("It has had this budget already: give a larger one to go on.")
    if main_process:
        print(f"{trainer.update:,} updates, {trainer.seconds:.0f} s of training; saved to {path}")


def _save_on_the_way(trainer: Trainer, folder: str) -> None:
    """Save; what goes wrong is told, and tried again the next time and at the end."""
    try:
        trainer.save(folder)
    except OSError as error:
        tqdm.write(f"diffnotes train: could not be saved now, and will be tried again: {error}", file=sys.stderr)


def sample(options: argparse.Namespace) -> None:
    """Draw images from a saved run, or from weights that come with the package ("mnist", "mnist-small"), into one picture."""
    from PIL import Image

    from diffnotes.training.grid import grid_image

    if options.number < 1:
        raise ValueError(f"--number must be at least 1, got {options.number}")
    if options.out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out must be the name of a picture, such as samples.png, got {options.out}")
    model, schedule = _network(options.run_folder)
    names = class_names_of(model)
    y = None
    if options.labels or options.label is not None:
        if not names:
            raise ValueError("--label and --labels need a network that was trained with --labels, and this one was not")
        wanted = [_label(options.label, names)] if options.label is not None else range(len(names))
        y = torch.tensor(wanted).repeat(-(-options.number // len(wanted)))[: options.number]
    if options.guidance != 1 and y is None:
        raise ValueError(f"--guidance must be 1 without --label or --labels, got {options.guidance}")
    guided = ClassifierFreeGuidance(model, options.guidance)
    x_T = initial_noise(options.seed, options.number, item_shape_of(model))
    solver, steps = _solver_and_steps(options, schedule, labels=y is not None)
    how = {"solver": solver, "steps": steps, "eta": options.eta, "generator": options.seed + 1}
    frames = sample_with(guided, schedule, x_T, y=y, **how)
    for frame in tqdm(frames, total=steps + 1, unit="step"):
        last = frame
    options.out.parent.mkdir(parents=True, exist_ok=True)
    grid_image(last.x_t, columns=len(names) if options.labels else None, scale=3).save(options.out)
    print(f"{options.number} images saved to {options.out}")


def _label(wanted: str, names: tuple[str, ...]) -> int:
    """The number of the label called so, or with this number."""
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names) and not any(name.isdecimal() for name in names):
        return int(wanted)
    raise ValueError(f"--label must be one of {', '.join(names)}, got {wanted!r}")


def measure(options: argparse.Namespace) -> None:
    """Measure the quality of samples from a saved run, or from weights that come with the package ("mnist", "mnist-small"),
    with a classifier that judges handwritten digits, and nothing else."""
    from diffnotes.training import metrics

    if options.number < 10:
        raise ValueError(f"--number must be at least 10, got {options.number}")
    model, schedule = _network(options.run_folder)
    if item_shape_of(model) != (1, 28, 28):
        raise ValueError(
            "measure judges with a classifier of handwritten digits, 1 x 28 x 28; this network draws "
            f"{' x '.join(map(str, item_shape_of(model)))}"
        )
    test = load_images(options.data, "test").x
    perfect, real = metrics.held_out(test, min(options.number, len(test) // 2))
    if model.trained_on not in ("mnist", "digits"):
        print(
            f"The network was trained on {model.trained_on!r}; the classifier judges handwritten digits, and nothing else."
        )
    print(f"real images: {metrics.quality(perfect, real)}")
    solver, steps = _solver_and_steps(options, schedule, labels=options.labels)
    samples = metrics.draw_samples(
        model,
        schedule,
        options.number,
        solver=solver,
        steps=steps,
        eta=options.eta,
        labels=options.labels,
        guidance=options.guidance,
        seed=options.seed,
    )
    print(f"samples:     {metrics.quality(samples, real)}")


def _network(name: str) -> tuple[Any, Schedule]:
    """Network and schedule of the run in folder `name`; "mnist" or "mnist-small", where there is no such run: those of the
    package."""
    of_package = name in {path.stem for path in WEIGHTS.glob("*.safetensors")} and not (Path(name) / FILE_NAME).exists()
    model, schedule = load_pretrained(name) if of_package else load_model(name)
    if schedule is None:
        raise ValueError(
            f"{name} must hold a diffusion model, got a {type(model).__name__} that was trained without a schedule"
        )
    return model, schedule


def _solver_and_steps(options: argparse.Namespace, schedule: Schedule, labels: bool) -> tuple[str, int]:
    """The solver and the number of steps asked for, or the usual ones."""
    solver = options.solver or usual_solver(labels)
    return solver, usual_steps(schedule, solver) if options.steps is None else options.steps


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Every option's default, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m diffnotes",
        description="Read the book on diffusion models; train a small one, and sample from it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    config, loss = TrainConfig(), Denoising(Schedule.cosine(T=1000))

    p = commands.add_parser("lab", help="open the book in JupyterLab", description=lab.__doc__, formatter_class=_Help)
    p.set_defaults(run=lab)
    p.add_argument(
        "folder", nargs="?", type=Path, default=Path("diffnotes-book"), help="where the notebooks are copied"
    )
    p.add_argument("--copy-only", action="store_true", help="do not start JupyterLab")
    p.add_argument("--no-browser", action="store_true", help="start it, print its address, and open no browser")
    p.add_argument("--port", type=int, help="of JupyterLab; unless given, the first that is free from 8888 on")

    p = commands.add_parser(
        "export", help="a chapter as one HTML file", description=export.__doc__, formatter_class=_Help
    )
    p.set_defaults(run=export)
    p.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK", help="chapters, as JupyterLab saved them")
    p.add_argument(
        "-o", "--out", type=Path, help="the HTML file, or a folder for several; unless given, beside each notebook"
    )
    p.add_argument(
        "--run",
        dest="run_first",
        action="store_true",
        help="run the cells first, in the notebook's own folder; the notebook stays as it is",
    )

    p = commands.add_parser("train", help="train a U-Net", description=train.__doc__, formatter_class=_Help)
    p.set_defaults(run=train)
    p.add_argument("--out", required=True, help="folder for the run")
    p.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, with the settings it was begun with"
    )
    budget = p.add_mutually_exclusive_group()
    budget.add_argument(
        "--seconds", type=float, default=180.0, help="budget in seconds of training, counted from the beginning"
    )
    budget.add_argument("--updates", type=int, help="budget in updates, counted from the beginning")
    p.add_argument("--save-every", type=float, default=60.0, help="seconds between saves (the end is always saved)")
    source = p.add_mutually_exclusive_group()
    source.add_argument("--data", default="auto", choices=["auto", "mnist", "digits"], help="the images")
    source.add_argument(
        "--images",
        help='pictures of your own: a folder, whose subfolders are the labels, or "idx:FOLDER" for IDX files',
    )
    p.add_argument("--size", type=int, help="with --images: crop and resize to this height and width")
    p.add_argument("--image-channels", type=int, choices=[1, 3], help="with --images: 1 for grey, 3 for colour")
    p.add_argument(
        "--start-from",
        metavar="RUN",
        help="begin a new run with the averaged weights of that one, a folder or weights of the package, with its network and "
        "its noise schedule: of what follows, the options of both do not count then",
    )
    p.add_argument("--schedule", default="cosine", choices=sorted(SCHEDULES), help="noise schedule")
    p.add_argument("--T", type=int, default=1000, help="number of noising steps")
    p.add_argument("--target", default="v", choices=["eps", "x0", "v", "u"], help="what the network predicts")
    p.add_argument("--labels", action="store_true", help="train it class-conditionally, with each image's label")
    p.add_argument("--channels", type=int, default=32, help="width of the U-Net's first level")
    p.add_argument(
        "--multipliers", type=int, nargs="+", default=[1, 2], help="width of each level, in units of --channels"
    )
    p.add_argument("--blocks", type=int, default=1, help="residual blocks per level")
    p.add_argument("--attention", type=int, default=1, help="levels with self-attention, counted from the smallest")
    p.add_argument("--patch", type=int, default=2, help="side of the pixel squares folded into channels")
    p.add_argument(
        "--input-mean",
        action="store_true",
        help="subtract from x_t its mean over images and pixels, so that what lies beyond the border is an average pixel",
    )
    p.add_argument("--batch-size", type=int, default=config.batch_size, help="images per update, over all processes")
    p.add_argument("--min-snr", type=float, default=loss.min_snr, help="limit of the loss weights; 0: no weights")
    p.add_argument(
        "--logit-normal",
        type=float,
        nargs=2,
        metavar=("MEAN", "STD"),
        help="draw the times logit-normally, not uniformly",
    )
    p.add_argument(
        "--optimizer", default=config.optimizer, choices=["muon", "adamw"], help="what turns gradients into steps"
    )
    p.add_argument("--learning-rate", type=float, default=config.learning_rate, help="highest learning rate")
    p.add_argument("--warmup", type=int, default=config.warmup, help="updates over which the learning rate rises")
    p.add_argument("--ema-decay", type=float, default=config.ema_decay, help="decay of the average of the weights")
    p.add_argument(
        "--label-dropout", type=float, default=loss.label_dropout, help="share of labels hidden, with --labels"
    )
    p.add_argument(
        "--precision", default=config.precision, choices=["auto", "float32", "bfloat16"], help="of the network"
    )
    p.add_argument("--seed", type=int, default=config.seed, help="decides all randomness")

    p = commands.add_parser("sample", help="draw images from a run", description=sample.__doc__, formatter_class=_Help)
    p.set_defaults(run=sample)
    p.add_argument("run_folder", metavar="RUN", help=RUN)
    p.add_argument("--out", type=Path, default=Path("samples.png"), help="the picture to write")
    p.add_argument("--number", type=int, default=64, help="how many images")
    _add_solver(p)
    asked = p.add_mutually_exclusive_group()
    asked.add_argument("--label", help="draw this label, by name or number (a run trained with --labels)")
    asked.add_argument("--labels", action="store_true", help="draw all labels in turn, one of each in a row (likewise)")
    p.add_argument("--guidance", type=float, default=1.0, help=GUIDANCE)
    p.add_argument("--seed", type=int, default=0, help="decides the noise")

    p = commands.add_parser(
        "measure", help="how good are a run's digits?", description=measure.__doc__, formatter_class=_Help
    )
    p.set_defaults(run=measure)
    p.add_argument("run_folder", metavar="RUN", help=RUN)
    p.add_argument(
        "--data", default="auto", choices=["auto", "mnist", "digits"], help="the test images to measure against"
    )
    p.add_argument("--number", type=int, default=2000, help="how many images")
    _add_solver(p)
    p.add_argument("--labels", action="store_true", help="ask for the digits 0 to 9 in turn")
    p.add_argument("--guidance", type=float, default=1.0, help=GUIDANCE)
    p.add_argument("--seed", type=int, default=0, help="decides the noise")
    return parser


def _add_solver(p: argparse.ArgumentParser) -> None:
    """The options that choose the sampler, and --sampler, as --solver was called when there were two of them."""
    p.add_argument("--solver", choices=SOLVERS, help="the sampler; dpm++ where labels are asked for, else sde-dpm++")
    p.add_argument("--sampler", dest="solver", choices=SOLVERS, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    p.add_argument("--steps", type=int, help=STEPS)
    p.add_argument("--eta", type=float, default=0.0, help="of ddim: 0 deterministic, 1 like ddpm")


if __name__ == "__main__":
    sys.exit(main())
