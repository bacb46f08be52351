"""What is each choice of chapter 6's run worth? The run as it is, and with one choice at a time taken back."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from benchmarks.measure import CLIP, Budget, clock, pace
from benchmarks.networks import CONFIG, LOSS, OURS, parameters
from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer, UNet
from diffnotes.training.metrics import draw_samples, held_out, quality


@dataclass(frozen=True)
class Run:
    """What is other than in chapter 6: settings of network, training and loss, the schedule, the seed."""

    network: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    seed: int = 0
    centred: bool = True  # whether the mean of x_t is subtracted

    @property
    def costs_otherwise(self) -> bool:
        """Whether an update takes another time than that of the run as it is; target, labels, times and weights cost nothing."""
        return bool(self.network.keys() - {"target", "num_classes"} or self.config.keys() - {"learning_rate"})


RUNS = {
    "base": Run(),
    "base_seed_1": Run(seed=1),
    "base_seed_2": Run(seed=2),
    "adamw": Run(config={"optimizer": "adamw", "learning_rate": 2e-3}),  # the best of a few learning rates for it
    "independent_times": Run(loss={"even_times": False}),
    "uniform_times": Run(loss={"logit_normal": None}),
    "min_snr": Run(loss={"logit_normal": None, "min_snr": 5.0}),
    "not_centred": Run(centred=False),
    "no_labels": Run(network={"num_classes": None}),
    "eps": Run(network={"target": "eps"}),
    "linear": Run(schedule="linear"),
    "eps_linear": Run(network={"target": "eps"}, schedule="linear"),
    "algorithm_1": Run(network={"target": "eps"}, schedule="linear", loss={"logit_normal": None}),
    "batch_16": Run(config={"batch_size": 16}),
    "batch_64": Run(config={"batch_size": 64}),
    "no_attention": Run(network={"attention": 0}),
    "patch_1": Run(network={"patch": 1}),
    "channels_24": Run(network={"channels": 24}),
    "channels_48": Run(network={"channels": 48}),
}


def measure(budget: Budget, train: Images, test: Images) -> dict[str, Any]:
    """Every run, one after the other, each from scratch and for the same time, that of budget.ablation_updates updates of the
    run as it is; and real images."""
    perfect, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    rows: dict[str, dict[str, Any]] = {}
    unit = budget.ablation_updates * pace(make(RUNS["base"], train).steps(updates=1000))
    for name in budget.runs or RUNS:
        updates = budget.ablation_updates
        if RUNS[name].costs_otherwise:
            updates = max(1, round(unit / pace(make(RUNS[name], train).steps(updates=1000))))
        started, trainer = clock(), make(RUNS[name], train)
        for _ in trainer.steps(updates=updates):
            pass
        seconds = clock() - started
        networks = {name: trainer.ema.model}
        if name == "base":
            networks["raw_weights"] = trainer.model.eval()
        for row, network in networks.items():
            labels = trainer.model.num_classes is not None
            how = {"solver": budget.solver, "steps": budget.steps, "eta": budget.eta, "labels": labels, "clip": CLIP}
            samples = draw_samples(network, trainer.schedule, budget.many, **how)
            images = trainer.update * trainer.config.batch_size
            rows[row] = {
                "updates": trainer.update,
                "seconds": seconds,
                "images_per_second": images / seconds,
                "parameters": parameters(network),
                **asdict(quality(samples, real)),
            }
            print(f"  {row}: {trainer.update} updates, {rows[row]['frechet']['value']:.1f}", flush=True)
    return {
        "seconds": unit,
        "updates": budget.ablation_updates,
        "clip": CLIP,
        "threads": torch.get_num_threads(),
        "samples": budget.many,
        "solver": budget.solver,
        "steps": budget.steps,
        "eta": budget.eta,
        "real": len(real),
        "images": train.name,
        "perfect": asdict(quality(perfect[: budget.many], real)),
        "rows": rows,
    }


def make(run: Run, train: Images) -> Trainer:
    """The trainer of a run, before its first update."""
    torch.manual_seed(run.seed)
    schedule = {"cosine": Schedule.cosine, "linear": Schedule.linear}[run.schedule](T=1000)
    mean = schedule.alpha_bar.sqrt() * train.x.mean() if run.centred else None
    model = UNet(**{**OURS, **run.network, "input_mean": mean})
    objective = Denoising(schedule, **{**LOSS, **run.loss})  # type: ignore[arg-type]
    return Trainer(model, objective, train, TrainConfig(seed=run.seed, **{**CONFIG, **run.config}))  # type: ignore[arg-type]
