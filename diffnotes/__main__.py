"""The command line for long runs: python -m diffnotes train ..., python -m diffnotes sample ...,
python -m diffnotes measure ...

On several GPUs, or several processes on the CPU: torchrun --nproc_per_node 2 -m diffnotes train ..."""

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from diffnotes import (
    Schedule,
    TrainConfig,
    Trainer,
    UNet,
    ddim_sample,
    ddpm_sample,
    initial_noise,
    load_images,
    load_model,
    load_pretrained,
)
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.training.checkpoint import FILE_NAME
from diffnotes.training.trainer import TrainingDiverged, defer_interrupts

SCHEDULES = {
    "linear": Schedule.linear,
    "quadratic": Schedule.quadratic,
    "sigmoid": Schedule.sigmoid,
    "cosine": Schedule.cosine,
}

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


def train(options: argparse.Namespace) -> None:
    """Train a U-Net, or go on with a run, saving every --save-every seconds and at the end."""
    if (Path(options.out) / FILE_NAME).exists() and not options.resume:
        raise ValueError(
            f"--out {options.out} already holds a run: add --resume to go on with it, or name another folder"
        )
    if options.resume:
        trainer = Trainer.load(options.out)
    else:
        images = load_images(options.data, "train")
        torch.manual_seed(options.seed)  # the first weights
        model = UNet(
            channels=options.channels,
            multipliers=options.multipliers,
            blocks=options.blocks,
            attention=options.attention,
            patch=options.patch,
            num_classes=10 if options.labels else None,
            target=options.target,
        )
        config = TrainConfig(
            seed=options.seed,
            batch_size=options.batch_size,
            min_snr=options.min_snr or None,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            warmup=options.warmup,
            ema_decay=options.ema_decay,
            label_dropout=options.label_dropout,
            precision=options.precision,
        )
        trainer = Trainer(model, SCHEDULES[options.schedule](options.T), images, config)
    Path(options.out).mkdir(parents=True, exist_ok=True)  # where it cannot be made, say so before the training
    main_process, processes = trainer.accelerator.is_main_process, trainer.accelerator.num_processes
    if main_process:
        parameters = sum(p.numel() for p in trainer.model.parameters())
        print(f"{trainer.images}\n{trainer.schedule}\nU-Net with {parameters:,} parameters, {processes} process(es)")

    in_updates = options.updates is not None
    budget = {"updates": options.updates} if in_updates else {"seconds": options.seconds}
    saved = time.monotonic()
    bar = tqdm(total=options.updates or options.seconds, disable=not main_process, unit="update" if in_updates else "s")
    with bar, defer_interrupts():  # Ctrl-C ends the training after an update, and never a save
        for state in trainer.steps(**budget):
            bar.n = state.update if in_updates else round(min(state.seconds, options.seconds))
            bar.set_postfix(loss=f"{state.loss:.4f}", images=state.images, refresh=False)
            bar.refresh() if state.progress >= 1 else bar.update(0)
            if processes == 1 and time.monotonic() - saved > options.save_every:
                trainer.save(options.out)
                saved = time.monotonic()
        path = trainer.save(options.out)
    if main_process:
        print(f"{trainer.update:,} updates, {trainer.seconds:.0f} s of training; saved to {path}")


def sample(options: argparse.Namespace) -> None:
    """Draw digits from a saved run, or from the weights that come with the package ("mnist"), into one picture."""
    from diffnotes.training.grid import grid_image

    if options.number < 1:
        raise ValueError(f"--number must be at least 1, got {options.number}")
    model, schedule = _network(options.run_folder)
    y = torch.arange(options.number) % 10 if options.labels else None
    if options.label is not None:
        y = torch.full((options.number,), options.label)
    if options.guidance != 1 and y is None:
        raise ValueError(f"--guidance must be 1 without --label or --labels, got {options.guidance}")
    guided = ClassifierFreeGuidance(model, options.guidance)
    x_T = initial_noise(options.seed, options.number)
    if options.sampler == "ddim":
        frames = ddim_sample(
            guided, schedule, x_T, steps=options.steps, eta=options.eta, y=y, generator=options.seed + 1
        )
    else:
        frames = ddpm_sample(guided, schedule, x_T, steps=options.steps, y=y, generator=options.seed + 1)
    for frame in tqdm(frames, total=(options.steps or schedule.T) + 1, unit="step"):
        last = frame
    options.out.parent.mkdir(parents=True, exist_ok=True)
    grid_image(last.x_t, columns=10 if options.labels else None, scale=3).save(options.out)
    print(f"{options.number} digits saved to {options.out}")


def measure(options: argparse.Namespace) -> None:
    """Measure the quality of samples from a saved run, or from the weights that come with the package ("mnist")."""
    from diffnotes.training import metrics

    if options.number < 10:
        raise ValueError(f"--number must be at least 10, got {options.number}")
    model, schedule = _network(options.run_folder)
    test = load_images(options.data, "test").x
    perfect, real = metrics.held_out(test, min(options.number, len(test) // 2))
    print(f"real images: {metrics.quality(perfect, real)}")
    samples = metrics.draw_samples(
        model,
        schedule,
        options.number,
        steps=options.steps,
        eta=options.eta,
        labels=options.labels,
        guidance=options.guidance,
        seed=options.seed,
    )
    print(f"samples:     {metrics.quality(samples, real)}")


def _network(name: str) -> tuple[UNet, Schedule]:
    """Network and schedule of the run in folder `name`; "mnist", where there is no such folder: those of the package."""
    return load_pretrained("mnist") if name == "mnist" and not Path("mnist").exists() else load_model(name)


def _parser() -> argparse.ArgumentParser:
    both = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m diffnotes", description="Train a small diffusion model, and sample from it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    config = TrainConfig()

    p = commands.add_parser("train", help="train a U-Net on digits", description=train.__doc__, formatter_class=both)
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
    p.add_argument(
        "--save-every", type=float, default=60.0, help="seconds between saves (one process; the end is always saved)"
    )
    p.add_argument("--data", default="auto", choices=["auto", "mnist", "digits"], help="the images")
    p.add_argument("--schedule", default="cosine", choices=sorted(SCHEDULES), help="noise schedule")
    p.add_argument("--T", type=int, default=1000, help="number of noising steps")
    p.add_argument("--target", default="v", choices=["eps", "x0", "v"], help="what the network predicts")
    p.add_argument("--labels", action="store_true", help="tell the network the digit's label")
    p.add_argument("--channels", type=int, default=32, help="width of the U-Net's first level")
    p.add_argument(
        "--multipliers", type=int, nargs="+", default=[1, 2], help="width of each level, in units of --channels"
    )
    p.add_argument("--blocks", type=int, default=1, help="residual blocks per level")
    p.add_argument("--attention", type=int, default=1, help="levels with self-attention, counted from the smallest")
    p.add_argument("--patch", type=int, default=2, help="side of the pixel squares folded into channels")
    p.add_argument("--batch-size", type=int, default=config.batch_size, help="images per update, over all processes")
    p.add_argument("--min-snr", type=float, default=config.min_snr, help="limit of the loss weights; 0: no weights")
    p.add_argument(
        "--optimizer", default=config.optimizer, choices=["muon", "adamw"], help="what turns gradients into steps"
    )
    p.add_argument("--learning-rate", type=float, default=config.learning_rate, help="highest learning rate")
    p.add_argument("--warmup", type=int, default=config.warmup, help="updates over which the learning rate rises")
    p.add_argument("--ema-decay", type=float, default=config.ema_decay, help="decay of the average of the weights")
    p.add_argument(
        "--label-dropout", type=float, default=config.label_dropout, help="share of labels hidden, with --labels"
    )
    p.add_argument(
        "--precision", default=config.precision, choices=["auto", "float32", "bfloat16"], help="of the network"
    )
    p.add_argument("--seed", type=int, default=config.seed, help="decides all randomness")

    p = commands.add_parser("sample", help="draw digits from a run", description=sample.__doc__, formatter_class=both)
    p.set_defaults(run=sample)
    p.add_argument("run_folder", metavar="RUN", help='folder of the run, or "mnist" for the weights of the package')
    p.add_argument("--out", type=Path, default=Path("samples.png"), help="the picture to write")
    p.add_argument("--number", type=int, default=64, help="how many digits")
    p.add_argument("--sampler", default="ddim", choices=["ddim", "ddpm"], help="the sampler")
    p.add_argument("--steps", type=int, default=50, help="sampling steps")
    p.add_argument("--eta", type=float, default=0.0, help="of DDIM: 0 deterministic, 1 like DDPM")
    asked = p.add_mutually_exclusive_group()
    asked.add_argument("--label", type=int, help="draw this digit (a run trained with --labels)")
    asked.add_argument("--labels", action="store_true", help="draw 0 to 9 in turn, ten in a row (likewise)")
    p.add_argument("--guidance", type=float, default=1.0, help=GUIDANCE)
    p.add_argument("--seed", type=int, default=0, help="decides the noise")

    p = commands.add_parser(
        "measure", help="how good are a run's digits?", description=measure.__doc__, formatter_class=both
    )
    p.set_defaults(run=measure)
    p.add_argument("run_folder", metavar="RUN", help='folder of the run, or "mnist" for the weights of the package')
    p.add_argument(
        "--data", default="auto", choices=["auto", "mnist", "digits"], help="the test images to measure against"
    )
    p.add_argument("--number", type=int, default=2000, help="how many digits")
    p.add_argument("--steps", type=int, default=50, help="sampling steps (DDIM)")
    p.add_argument("--eta", type=float, default=0.0, help="of DDIM: 0 deterministic, 1 like DDPM")
    p.add_argument("--labels", action="store_true", help="ask for the digits 0 to 9 in turn")
    p.add_argument("--guidance", type=float, default=1.0, help=GUIDANCE)
    p.add_argument("--seed", type=int, default=0, help="decides the noise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
