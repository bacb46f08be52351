"""Any objective fits under the trainer; the first one, Denoising, is the training of the first edition to the last bit."""

import copy
import dataclasses
import math
import re
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer, UNet, load_model, load_pretrained
from diffnotes.process.consistency import consistency_sample
from diffnotes.process.losses import min_snr_weight, simple_loss
from diffnotes.training import checkpoint
from diffnotes.training.ema import EMA
from diffnotes.training.muon import Muon
from diffnotes.training.objectives import Consistency, Draw, Losses
from diffnotes.training.restore import class_names_of, item_shape_of

SMALL = dict(channels=16, multipliers=(1,), blocks=1, attention=0, patch=4, target="v")


def network(**other) -> UNet:
    torch.manual_seed(5)
    return UNet(**{**SMALL, **other})


# -- today's training is yesterday's ----------------------------------------------------------------------------------------


def first_edition_inputs(images: Images, schedule: Schedule, n: int, size: int, classes: int | None, even: bool):
    """What update n of a run with seed 3 saw in the first edition, before there were objectives."""

    def stream(purpose: str, n: int) -> torch.Generator:
        words = np.random.SeedSequence([3, int.from_bytes(purpose.encode(), "big"), n]).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))

    epoch, k = divmod(n, len(images) // size)
    index = torch.randperm(len(images), generator=stream("order", epoch))[k * size : (k + 1) * size]
    g = stream("noise", n)
    lot = torch.rand(1 if even else size, generator=g, dtype=torch.float64)
    if even:
        lot = (lot + torch.arange(size, dtype=torch.float64) / size) % 1
    t = 1 + (lot * schedule.T).long()
    eps = torch.randn(size, 1, 28, 28, generator=g)
    dropped = torch.rand(size, generator=g) < 0.1
    y = None if classes is None else torch.where(dropped, classes, images.y[index])
    return images.x[index], y, t, eps


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer, labels, min_snr, even", [("muon", 10, 5.0, True), ("adamw", None, None, False)])
def test_20_updates_are_those_of_the_first_edition_to_the_last_bit(few, precision, optimizer, labels, min_snr, even):
    images, schedule = few(64), Schedule.cosine(20)
    config = TrainConfig(seed=3, batch_size=8, optimizer=optimizer, warmup=7, precision=precision)
    trainer = Trainer(network(num_classes=labels), Denoising(schedule, min_snr, even), images, config)
    losses = [state.loss for state in trainer.steps(updates=20)]

    model = network(num_classes=labels)
    kind = Muon if optimizer == "muon" else torch.optim.AdamW
    steps = kind(model.parameters(), 3e-3, betas=(0.9, 0.99), weight_decay=0.01)
    average, expected = EMA(model, 0.998), []
    for n in range(20):
        x0, y, t, eps = first_edition_inputs(images, schedule, n, 8, labels, even)
        rate = 3e-3 * min(1, (n + 1) / 7) * 0.5 * (1 + math.cos(math.pi * n / 20))
        for group in steps.param_groups:
            group["lr"] = rate
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            errors = simple_loss(model, schedule, x0, t, eps, y)
        weight = torch.ones(8) if min_snr is None else min_snr_weight(schedule, t, min_snr, "v")
        steps.zero_grad()
        (weight.to(errors) * errors).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
        average.update(model)
        expected.append(errors.mean().item())
    assert losses == expected
    for mine, theirs in ((trainer.model, model), (trainer.ema.model, average.model)):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_process_sees_its_share_of_what_the_first_edition_showed(few, processes, monkeypatch, inputs_of):
    images, schedule = few(64), Schedule.cosine(20)
    trainer = Trainer(network(num_classes=10), schedule, images, TrainConfig(seed=3, batch_size=8))
    monkeypatch.setattr(Accelerator, "num_processes", processes)
    for n in (0, 7, 8, 30):
        whole = first_edition_inputs(images, schedule, n, 8, 10, True)
        for rank in range(processes):
            monkeypatch.setattr(Accelerator, "process_index", rank)
            share = slice(rank * 8 // processes, (rank + 1) * 8 // processes)
            assert all(torch.equal(a, b[share]) for a, b in zip(inputs_of(trainer, n), whole, strict=True))


def test_logit_normal_times_have_their_distribution(few):
    """The share of times up to T u is Phi((logit(u) - m) / s)."""
    images, schedule = few(16), Schedule.cosine(1000)
    objective = Denoising(schedule, logit_normal=(0.3, 0.8), even_times=False)
    t = torch.cat([objective.inputs(network(), images[:16], Draw(0, n, 16))[2] for n in range(1000)])
    for u in (0.2, 0.4, 0.6, 0.8):
        expected = torch.special.ndtr(torch.tensor((math.log(u / (1 - u)) - 0.3) / 0.8)).item()
        assert (t <= u * schedule.T).double().mean().item() == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(len(t)))
    assert 1 <= int(t.min()) and int(t.max()) <= schedule.T


def test_a_run_with_logit_normal_times_keeps_them(few, tmp_path):
    objective = Denoising(Schedule.cosine(20), logit_normal=[0.3, 1])
    images = few(16)
    trainer = Trainer(network(), objective, images, TrainConfig(batch_size=8))
    next(trainer.steps(updates=2))
    again = Trainer.load(trainer.save(tmp_path).parent, data=images)
    assert again.objective.logit_normal == objective.logit_normal == (0.3, 1.0)


@pytest.mark.parametrize("given", ["0.3", (0.3,), (0.3, 0), (math.nan, 1), 0.3])
def test_logit_normal_asks_for_a_mean_and_a_standard_deviation(given, as_installed):
    with pytest.raises(ValueError, match="logit_normal"):
        Denoising(Schedule.cosine(20), logit_normal=given)


def test_draw_depends_on_seed_update_and_purpose_alone():
    def numbers(seed: int, update: int, purpose: str, size: int = 8, share: slice = slice(None)) -> list[float]:
        return torch.rand(4, generator=Draw(seed, update, size, share)(purpose)).tolist()

    usual = numbers(3, 5, "noise")
    assert usual == numbers(3, 5, "noise", 16, slice(2, 4))
    assert all(numbers(*other) != usual for other in ((4, 5, "noise"), (3, 6, "noise"), (3, 5, "order")))


# -- any objective, any network -----------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """No class of the package's, and no diffusion model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(784, width), nn.Linear(width, 784)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(F.silu(self.encode(x.flatten(1)))).view_as(x)


@dataclass(frozen=True)
class Reconstruction:
    """Denoising autoencoder with a penalty: no time, two parts, one of them weighted."""

    noise: float = 0.3
    penalty: float = 0.1

    def __call__(self, model, batch, draw: Draw) -> Losses:
        g = draw("corruption")
        eps = torch.randn(draw.size, *batch.x.shape[1:], generator=g)[draw.share]
        answer = model(batch.x + self.noise * eps)
        error, size = (answer - batch.x).square().flatten(1).mean(1), answer.square().flatten(1).mean(1)
        return Losses(error + self.penalty * size, {"error": error, "size": size})

    def check(self, model, data) -> None:
        if self.noise < 0:
            raise ValueError(f"noise must be at least 0, got {self.noise}")


def autoencoder(few, **config) -> Trainer:
    torch.manual_seed(0)
    return Trainer(Autoencoder(16), Reconstruction(), few(64), TrainConfig(**{"seed": 3, "batch_size": 8, **config}))


def test_an_objective_and_a_network_of_ones_own_train_without_the_loop_knowing_them(few):
    trainer = autoencoder(few, warmup=5, learning_rate=2e-2)
    states = list(trainer.steps(updates=100))
    assert np.mean([s.loss for s in states[-10:]]) < 0.5 * np.mean([s.loss for s in states[:3]])
    assert all(set(state.parts) == {"error", "size"} and state.loss == state.parts["error"] for state in states)
    assert trainer.schedule is None and np.isnan(trainer.loss_by_time).all()


def test_total_is_what_is_minimised_and_not_the_parts(few):
    """The gradient of the first update is that of error + penalty * size, written out."""
    trainer, twin = autoencoder(few, gradient_clip=1e9, precision="float32"), autoencoder(few).model
    batch, draw = trainer.batch(0), trainer.draw(0)
    eps = torch.randn(8, 1, 28, 28, generator=draw("corruption"))
    answer = twin(batch.x + 0.3 * eps)
    ((answer - batch.x).square().mean() + 0.1 * answer.square().mean()).backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in twin.parameters()))
    assert next(trainer.steps(updates=5)).gradient_norm == pytest.approx(norm, rel=1e-5)


def test_such_a_run_is_kept_and_goes_on_bit_by_bit_when_network_and_objective_are_handed_over(
    few, tmp_path, run_of, same_run
):
    whole = autoencoder(few)
    list(whole.steps(updates=12))
    half = autoencoder(few)
    for state in half.steps(updates=12):
        if state.update == 7:
            half.save(tmp_path)
            break
    again = Trainer.load(tmp_path, few(64), model=Autoencoder(16), objective=Reconstruction())
    list(again.steps(updates=12))
    same_run(run_of(again), run_of(whole))
    model, schedule = load_model(tmp_path, model=Autoencoder(16))
    assert schedule is None and not model.training
    assert torch.equal(model.encode.weight, half.ema.model.encode.weight)


def test_a_run_whose_network_is_not_of_the_package_says_so_when_it_is_loaded_without_it(few, tmp_path):
    autoencoder(few).save(tmp_path)
    with pytest.raises(
        ValueError, match=r"Autoencoder, which diffnotes cannot make by itself: hand one over .*model=\.\.\."
    ):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=r"objective '.*Reconstruction', which diffnotes does not have: hand it over"):
        Trainer.load(tmp_path, few(64), model=Autoencoder(16))
    with pytest.raises(
        ValueError, match=r"(?s)^model must be made like the network of the run, a .*Autoencoder: .*size mismatch"
    ):
        load_model(tmp_path, model=Autoencoder(8))


def test_a_checkpoint_cannot_name_a_class_outside_the_models(few, tmp_path):
    Trainer(network(), Schedule.cosine(20), few(8), TrainConfig(batch_size=8)).save(tmp_path)
    tensors, metadata = checkpoint.read(tmp_path)
    for name in (
        "os.system",
        "diffnotes.models.unet.nn",
        "diffnotes.models.unet.math.gcd",
        "diffnotes.models.nowhere.Net",
    ):
        checkpoint.write(tmp_path, tensors, metadata | {"model_class": name})
        with pytest.raises(ValueError, match=re.escape(f"the run's network is a {name}, which diffnotes cannot make")):
            load_model(tmp_path)


def test_a_network_of_ones_own_trains_saves_and_loads_as_a_denoiser(few, tmp_path):
    class Tiny(nn.Module):
        target = "x0"

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x_t, t, y=None):
            return self.net(x_t)

    trainer = Trainer(Tiny(), Schedule.cosine(20), few(8), TrainConfig(batch_size=8))
    list(trainer.steps(updates=2))
    trainer.save(tmp_path)
    model, schedule = load_model(tmp_path, model=Tiny())
    assert torch.equal(model.net.weight, trainer.ema.model.net.weight) and schedule.T == 20
    assert item_shape_of(model) == (1, 28, 28) and class_names_of(model) == ()


def test_a_compiled_network_is_kept_as_what_it_was(few, tmp_path, run_of, same_run, as_installed):
    compiled = Trainer(
        torch.compile(network(), backend="eager"), Schedule.cosine(20), few(64), TrainConfig(batch_size=8)
    )
    plain = Trainer(network(), Schedule.cosine(20), few(64), TrainConfig(batch_size=8))
    for trainer in (compiled, plain):
        list(trainer.steps(updates=2))
    same_run(run_of(compiled), run_of(plain))
    compiled.save(tmp_path)
    assert isinstance(load_model(tmp_path)[0], UNet)


def test_shared_weights_are_kept(few, tmp_path):
    class Tied(Autoencoder):
        def __init__(self) -> None:
            super().__init__(16)
            self.encode_again = self.encode

    trainer = Trainer(Tied(), Reconstruction(), few(8), TrainConfig(batch_size=8))
    trainer.save(tmp_path)
    model, _ = load_model(tmp_path, model=Tied())
    assert torch.equal(model.encode_again.weight, trainer.model.encode.weight)


# -- what does not go together is refused when the trainer is made ------------------------------------------------------------


def trainer_with(few, model=None, objective=None, images=None) -> Trainer:
    return Trainer(model or network(), objective or Schedule.cosine(20), images or few(8), TrainConfig(batch_size=8))


def test_images_in_0_to_255_or_0_to_1_are_refused(few):
    x, y = few(8).x, few(8).y
    with pytest.raises(ValueError, match=r"^x must .*\[-1, 1\].*got.*0.*255"):
        trainer_with(few, images=Images((x + 1) * 127.5, y, "mine", "mine"))
    with pytest.raises(ValueError, match=r"2 \* x - 1"):
        trainer_with(few, images=Images((x + 1) / 2, y, "mine", "mine"))


def test_a_label_that_would_mean_no_label_is_refused(few):
    images = Images(few(8).x, torch.arange(1, 9), "letters", "mine")  # 8 = num_classes
    with pytest.raises(
        ValueError, match=r'^data\.y must hold labels 0\.\.7 .*\(the label 8 means "no label"\), got 1\.\.8$'
    ):
        trainer_with(few, network(num_classes=8), images=images)
    trainer_with(few, network(num_classes=9), images=images)


def test_eps_with_zero_terminal_snr_is_refused_with_the_way_out(few):
    schedule = Schedule.cosine(20).rescale_zero_terminal_snr()
    with pytest.raises(
        ValueError, match=r'^model\.target must not be "eps" where alpha_bar_T = 0 .*target "v" or "x0"'
    ):
        trainer_with(few, network(target="eps"), schedule)
    trainer_with(few, network(target="v"), schedule)


@pytest.mark.parametrize(
    "answer, message",
    [
        (
            lambda x: x[:, :, 1:],
            r"^model must answer with a tensor of x_t's shape \(2, 1, 28, 28\), got \(2, 1, 27, 28\)$",
        ),
        (lambda x: {"sample": x}, r"got dict; for a network of diffusers see process/adapters\.py$"),
        (
            lambda x: F.conv2d(x, torch.zeros(1, 3, 1, 1)),
            r"^model must answer model\(x_t, t, y\) for images of shape .*RuntimeError",
        ),
    ],
)
def test_a_network_that_does_not_answer_in_the_images_shape_is_refused(few, answer, message):
    class Odd(nn.Module):
        target, num_classes = "eps", None

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x_t, t, y=None):
            return answer(x_t)

    with pytest.raises(ValueError, match=message):
        trainer_with(few, Odd())


def test_the_trial_call_leaves_training_modes_as_they_were(few):
    model = network()
    model.middle.eval()
    before = {name: module.training for name, module in model.named_modules()}
    trainer_with(few, model)
    assert {name: module.training for name, module in model.named_modules()} == before


@pytest.mark.parametrize("odd", ["frozen", "half", "no module", "no target", "settings"])
def test_what_cannot_be_trained_or_kept_is_refused(few, odd, as_installed):
    model: object = network()
    if odd == "frozen":
        message = r'with requires_grad; .*load_pretrained\("mnist", trainable=True\)'
        model.requires_grad_(False)
    elif odd == "half":
        message = r"^model must have weights in float32, got torch\.float16"
        model.half()
    elif odd == "no module":
        message, model = r"^model must be a torch\.nn\.Module, got function$", lambda x_t, t, y=None: x_t
    elif odd == "no target":
        message = r'^model must name what it predicts, model\.target = "eps", "x0", "v" or "u", got None$'
        model.target = None
    else:
        message = r"^the run could not be saved: the settings of model, objective and data must be what JSON can hold"
        model.settings = model.settings | {"channels": object()}
    with pytest.raises(ValueError, match=message):
        trainer_with(few, model)


@pytest.mark.parametrize(
    "odd, message",
    [
        (
            dict(objective="cosine"),
            "objective must be a Schedule, or an objective such as Denoising(schedule), got str",
        ),
        (
            dict(objective=Denoising),
            "objective must be a Schedule, or an objective such as Denoising(schedule), got type",
        ),
        (
            dict(data=torch.zeros(8, 1, 28, 28)),
            "data must be Images, or have __len__, __getitem__, to, digest and name as they do, got Tensor",
        ),
        (
            dict(data=None),
            "data must be Images, or have __len__, __getitem__, to, digest and name as they do, got NoneType",
        ),
        (dict(config={"seed": 0}), "config must be a TrainConfig, or None for the usual settings, got dict"),
    ],
)
def test_something_else_in_the_place_of_an_argument_is_named(few, odd, message, as_installed):
    usual = dict(model=network(), objective=Schedule.cosine(20), data=few(8), config=TrainConfig(batch_size=8))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Trainer(**(usual | odd))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(min_snr=0.0), "min_snr must be a positive number, or None for no weights, got 0.0"),
        (dict(min_snr=math.nan), "min_snr must be a positive number, or None for no weights, got nan"),
        (dict(min_snr="5"), "min_snr must be a positive number, or None for no weights, got '5'"),
        (dict(label_dropout=1.5), "label_dropout must lie in [0, 1], got 1.5"),
        (dict(label_dropout=-0.5), "label_dropout must lie in [0, 1], got -0.5"),
        (dict(schedule="cosine"), "schedule must be a Schedule, got str"),
    ],
)
def test_a_wrong_setting_of_the_loss_is_refused(settings, message, as_installed):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Denoising(**{"schedule": Schedule.cosine(20), **settings})


# -- what is written on a network of its images --------------------------------------------------------------------------------


def test_shape_and_classes_travel_with_the_network(tmp_path):
    x = torch.rand(8, 3, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = Images(x, torch.arange(8) % 2, "pets", "mine", classes=("cat", "dog"))
    trainer = Trainer(
        UNet(8, (1,), 1, 0, num_classes=2, patch=4, image_channels=3),
        Denoising(Schedule.cosine(20), label_dropout=0.25),
        images,
        TrainConfig(batch_size=8),
    )
    list(trainer.steps(updates=1))
    trainer.save(tmp_path)
    loaded, _ = load_model(tmp_path)
    for model in (trainer.model, trainer.ema.model, loaded):
        assert item_shape_of(model) == (3, 16, 32) and class_names_of(model) == ("cat", "dog")
        assert model.label_dropout == 0.25 and model.trained_on == "pets"
    with pytest.raises(ValueError, match=r"trained on 8 images of 'pets', which cannot be loaded here .*data=\.\.\."):
        Trainer.load(tmp_path)
    assert Trainer.load(tmp_path, images).data is images


def test_losses_and_draw_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Draw(0, 0, 8).seed = 1


# -- what a run must not lose -------------------------------------------------------------------------------------------------


def same_after(trainer: Trainer, folder, updates: int, run_of, same_run, **load) -> None:
    """The run, saved and loaded, goes on as it would have gone on."""
    trainer.save(folder)
    again = Trainer.load(folder, trainer.data, **load)
    for run in (trainer, again):
        list(run.steps(updates=updates))
    same_run(run_of(again), run_of(trainer))


def test_frozen_weights_stay_frozen_when_a_run_is_loaded(few, tmp_path, run_of, same_run):
    model = network()
    model.time.requires_grad_(False)
    before = [p.clone() for p in model.time.parameters()]
    trainer = Trainer(model, Schedule.cosine(20), few(64), TrainConfig(batch_size=8, warmup=0))
    list(trainer.steps(updates=3))
    same_after(trainer, tmp_path, 6, run_of, same_run)
    frozen = Trainer.load(tmp_path, few(64)).model.time
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.parameters(), strict=True))


def test_a_run_that_began_with_the_weights_of_the_package_goes_on_to_the_last_bit(few, tmp_path, run_of, same_run):
    model, schedule = load_pretrained("mnist", trainable=True)
    trainer = Trainer(model, schedule, few(8), TrainConfig(batch_size=4, precision="float32"))
    list(trainer.steps(updates=2))
    same_after(trainer, tmp_path, 4, run_of, same_run)


def test_dropout_is_drawn_anew_in_every_update_and_alike_when_a_run_is_loaded(few, tmp_path, run_of, same_run):
    class Dropped(Autoencoder):
        def forward(self, x):
            return self.decode(F.dropout(F.silu(self.encode(x.flatten(1))), 0.5, self.training)).view_as(x)

    torch.manual_seed(0)
    trainer = Trainer(Dropped(16), Reconstruction(), few(64), TrainConfig(batch_size=8))
    state = torch.random.get_rng_state()
    list(trainer.steps(updates=3))
    assert torch.equal(state, torch.random.get_rng_state())  # and torch's own randomness is left alone
    torch.manual_seed(99)
    same_after(trainer, tmp_path, 6, run_of, same_run, model=Dropped(16), objective=Reconstruction())


def test_other_labels_classes_or_shapes_are_other_data(few, tmp_path):
    images = few(8)
    Trainer(network(num_classes=10), Schedule.cosine(20), images, TrainConfig(batch_size=8)).save(tmp_path)
    others = {
        "labels_sha256": Images(images.x, images.y.flip(0), images.name, images.source, images.classes),
        "classes": Images(images.x, images.y, images.name, images.source, tuple("abcdefghij")),
        "item_shape": Images(images.x.reshape(8, 1, 4, 196), images.y, images.name, images.source, images.classes),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=rf"was trained on 8 images of digits, got Images\(.*: other {name}$"):
            Trainer.load(tmp_path, other)
    Trainer.load(tmp_path, images)


def test_an_objective_of_ones_own_is_not_taken_for_the_packages_of_the_same_name(few, tmp_path):
    mine = dataclasses.make_dataclass("Denoising", [], bases=(Denoising,), frozen=True)(Schedule.cosine(20))
    Trainer(network(), mine, few(8), TrainConfig(batch_size=8)).save(tmp_path)
    with pytest.raises(ValueError, match=r"objective '.*Denoising', which diffnotes does not have: hand it over"):
        Trainer.load(tmp_path, few(8))


def test_losses_of_a_wrong_shape_are_refused_before_anything_has_changed(as_installed):
    one, two = torch.ones(8), torch.ones(7)
    for total, parts, bins, name in (
        (two.sum(), {}, None, "total"),
        (one, {"error": two}, None, "error"),
        (one, {}, two.long(), "time_bin"),
    ):
        with pytest.raises(ValueError, match=rf"^{name} must hold one number for each item"):
            Losses(total, parts, bins)
    with pytest.raises(ValueError, match=r"^time_bin must lie in 0\.\.9, got 1\.\.10$"):
        Losses(one, {}, torch.tensor([1, 2, 3, 4, 5, 6, 7, 10]))


def test_a_network_whose_module_has_a_name_that_is_needed_is_refused(few):
    class Named(Autoencoder):
        def __init__(self) -> None:
            super().__init__(4)
            self.classes = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"^model must leave the names trained_on, item_shape, classes .* free"):
        Trainer(Named(), Reconstruction(), few(8), TrainConfig(batch_size=8))


def test_a_run_may_be_saved_by_others_while_it_trains(few, tmp_path):
    """Two threads save while a third trains: every file is whole, and all that is in it is of one update."""
    trainer = Trainer(network(), Schedule.cosine(20), few(64), TrainConfig(batch_size=8))
    wrong, done = [], threading.Event()

    def save(folder) -> None:
        try:
            while not done.is_set():
                trainer.save(folder)
                tensors, metadata = checkpoint.read(folder)
                if len(tensors["history"]) != metadata["update"]:
                    wrong.append(metadata["update"])
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=save, args=(tmp_path / name,)) for name in ("a", "b", "b")]
    for thread in threads:
        thread.start()
    list(trainer.steps(updates=40))
    done.set()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []


def test_a_network_that_predicts_something_else_is_not_taken_for_that_of_the_run(few, tmp_path):
    Trainer(network(target="v"), Schedule.cosine(20), few(8), TrainConfig(batch_size=8)).save(tmp_path)
    with pytest.raises(ValueError, match=r"^model must predict 'v', as the network of the run does, got target 'eps'$"):
        load_model(tmp_path, model=network(target="eps"))


def test_an_objective_handed_over_must_be_that_of_the_run(few, tmp_path):
    Trainer(network(), Denoising(Schedule.cosine(20)), few(8), TrainConfig(batch_size=8)).save(tmp_path)
    for other in (Denoising(Schedule.cosine(20), min_snr=None), Denoising(Schedule.linear(20)), Reconstruction()):
        with pytest.raises(ValueError, match=r"^objective must be that of the run, \{'class': .*Denoising'"):
            Trainer.load(tmp_path, few(8), objective=other)
    Trainer.load(tmp_path, few(8), objective=Denoising(Schedule.cosine(20)))


def test_the_packages_network_records_what_images_it_was_trained_on():
    model, _ = load_pretrained("mnist")
    assert model.item_shape == (1, 28, 28) and model.classes == tuple("0123456789") and model.trained_on == "mnist"


# -- consistency training -------------------------------------------------------------------------------------------------------

COSINE = Schedule.cosine(1000)
LEVELS = [
    992,
    987,
    979,
    965,
    939,
    887,
    785,
    592,
    331,
    134,
    40,
    7,
    0,
]  # Karras' 12 between the noise levels 80 and 0.02, and 0


class Watched(nn.Module):
    """v = w x, w other at every time, with a record of its calls; dropout in it shows the mode it is in."""

    target, num_classes = "v", 10

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 1001))
        self.calls: list = []

    def forward(self, x_t, t, y=None):
        self.calls.append(
            (x_t.clone(), t.clone(), None if y is None else y.clone(), self.training, torch.is_grad_enabled())
        )
        return self.w[t].view(-1, 1, 1, 1) * x_t


def consistency(few, objective: Consistency | None = None, size: int = 16, update: int = 0, share: slice = slice(None)):
    """Model, batch, draw, losses and inputs of one update."""
    objective, model, draw = objective or Consistency(COSINE), Watched(), Draw(3, update, size, share)
    batch = few(size)[share]
    return model, batch, objective(model, batch, draw), objective.inputs(model, batch, draw)


def test_the_levels_are_karras_times_and_0():
    assert Consistency(COSINE).times.tolist() == LEVELS
    assert Consistency(Schedule.cosine(100), levels=5).times[-1] == 0


@pytest.mark.parametrize("size, at_top", [(8, 0.25), (32, 0.25), (44, 0.5)])
def test_a_quarter_of_every_batch_is_at_the_top_and_the_rest_evenly_below(few, size, at_top):
    objective, counts = Consistency(COSINE, at_top=at_top), torch.zeros(12)
    for update in range(440):
        _, _, level, _ = objective.inputs(Watched(), few(size), Draw(3, update, size))
        assert int((level == 0).sum()) == size * at_top
        counts += torch.bincount(level, minlength=12)
    below = counts[1:] / (440 * size * (1 - at_top) / 11)
    assert (below - 1).abs().max() < 0.15


def test_both_levels_have_the_same_image_noise_and_label_and_are_neighbours(few):
    model, batch, losses, (x0, y, level, eps) = consistency(few)
    (x_s, s, y_s, training_s, gradient_s), (x_t, t, y_t, training_t, gradient_t) = model.calls
    assert t.tolist() == [LEVELS[i] for i in level] and s.tolist() == [max(LEVELS[i + 1], 1) for i in level]
    assert torch.equal(y_s, y_t) and torch.equal(y_t, y) and not training_s and not gradient_s
    assert training_t and gradient_t and model.training
    for x, time in ((x_t, [LEVELS[i] for i in level]), (x_s, [LEVELS[i + 1] for i in level])):
        abar = COSINE.alpha_bar[time].float().view(-1, 1, 1, 1)
        assert torch.allclose(x, abar.sqrt() * batch.x + (1 - abar).sqrt() * eps, atol=1e-6)
    assert torch.equal(x0, batch.x) and abs(float(eps.std()) - 1) < 0.02
    assert torch.equal(losses.time_bin, (t - 1) * 10 // 1000)


def test_the_loss_is_its_formula_and_the_target_at_the_bottom_is_the_image(few):
    """Written out, for a network v = w x: f = (a - b w) x; at the level below the lowest, f = x_0 whatever w is."""
    model, _, losses, (x0, _, level, eps) = consistency(few, Consistency(COSINE, softness=0.7), 32)

    def end(x, time: int):
        a, b = math.sqrt(COSINE.alpha_bar[time]), math.sqrt(1 - COSINE.alpha_bar[time])
        return x0[i] if time == 0 else (a - b * model.w[time].item()) * (a * x0[i] + b * eps[i])

    bottom = 0
    for i in range(32):
        t, s = LEVELS[level[i]], LEVELS[level[i] + 1]
        square = (end(x0, t) - end(x0, s)).double().square().sum().item()
        assert losses.total[i].item() == pytest.approx(math.sqrt(square + 0.49) - 0.7, rel=1e-4)
        assert losses.parts["distance to the level below"][i].item() == pytest.approx(math.sqrt(square / 784), rel=1e-4)
        bottom += s == 0
    assert bottom >= 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_gradient_goes_through_the_target_and_all_of_it_through_the_other(few, precision):
    """The gradient is that of a network against a copy of itself that stands still and computes in float32."""
    objective, images, draw = Consistency(COSINE), few(16), Draw(3, 0, 16)
    model, twin = network(num_classes=10), network(num_classes=10)
    for net in (model, twin):
        torch.nn.init.normal_(net.last.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    frozen = copy.deepcopy(twin).eval().requires_grad_(False)
    x0, y, level, eps = objective.inputs(model, images, draw)
    t, s = torch.tensor(LEVELS)[level], torch.tensor(LEVELS)[level + 1]

    def end(net, time):
        abar = COSINE.alpha_bar[time].float().view(-1, 1, 1, 1)
        x = abar.sqrt() * x0 + (1 - abar).sqrt() * eps
        return abar.sqrt() * x - (1 - abar).sqrt() * net(x, time.clamp(min=1), y).float()

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        objective(model, images, draw).total.mean().backward()
        f = end(twin, t)
    delta = f - end(frozen, s)  # the target in float32
    assert delta.dtype == torch.float32
    ((delta.square().flatten(1).sum(1) + 0.09).sqrt() - 0.3).mean().backward()
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None, name
        assert (mine.grad - theirs.grad).norm() <= 0.01 * theirs.grad.norm(), name
    assert max(p.grad.abs().max() for p in model.parameters()) > 1e-3


def test_under_autocast_only_the_network_is_rounded(few):
    """At the lowest levels b is small, and so is the rounding of b F; a difference in bfloat16 would be 0.002 off."""
    objective, images, draw = Consistency(COSINE), few(64), Draw(3, 0, 64)
    model = network(num_classes=10).eval()
    torch.nn.init.normal_(model.last.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    low = objective.inputs(model, images, draw)[2] >= 10
    exact = objective(model, images, draw).parts["distance to the level below"][low]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(model, images, draw).parts["distance to the level below"][low]
    assert len(exact) >= 6 and rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 3e-4


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_share_a_batch_of_it(few, processes):
    _, _, whole, inputs = consistency(few, size=16, update=7)
    for rank in range(processes):
        share = slice(rank * 16 // processes, (rank + 1) * 16 // processes)
        _, _, losses, part = consistency(few, size=16, update=7, share=share)
        assert torch.allclose(losses.total, whole.total[share], rtol=1e-5)
        assert all(torch.equal(a, b[share]) for a, b in zip(part, inputs, strict=True))


class Gains(nn.Module):
    """v = g x, a number g for every time."""

    target = "v"

    def __init__(self, gains: torch.Tensor | None = None) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.zeros(1001) if gains is None else gains.float())

    def forward(self, x_t, t, y=None):
        return self.g[t].view(-1, 1, 1, 1) * x_t


def gaussian(number: int, sd: float) -> Images:
    """One-pixel images from N(0, sd^2), of exactly that second moment."""
    x = torch.randn(number, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    x = x.clamp(-3.4, 3.4)
    return Images(sd * x / x.square().mean().sqrt(), torch.zeros(number).long(), "Gaussian", "made")


def test_trained_on_gaussian_data_it_is_the_path_of_ddim_and_not_the_mean():
    """In closed form (eq. 14.14) f = s_0 x at the top, and E[x_0 | x_t] = 0.001 x. With 12 levels the fixed point of training
    is DDIM's end over the same 12 times: on average the same noise is a DDIM step (eq. 14.15), and here f is linear."""
    sd = 0.28
    trainer = Trainer(
        Gains(),
        Consistency(COSINE),
        gaussian(2048, sd),
        TrainConfig(batch_size=512, optimizer="adamw", learning_rate=0.05, warmup=5, weight_decay=0.0, ema_decay=0.95),
    )
    list(trainer.steps(updates=500))
    a, b = COSINE.alpha_bar.sqrt(), (1 - COSINE.alpha_bar).sqrt()
    expected = 1.0
    for t, s in zip(LEVELS[-2::-1], LEVELS[:0:-1], strict=True):
        expected *= float((a[t] * a[s] * sd**2 + b[t] * b[s]) / (a[t] ** 2 * sd**2 + b[t] ** 2))
        f = float(a[t] - b[t] * trainer.ema.model.g[t])
        assert f == pytest.approx(expected, rel=0.05), (t, s)
    assert expected == pytest.approx(0.778 * sd, rel=1e-3)  # what 12 steps of first order make of s_0
    mean = float(a[992] * sd**2 / (a[992] ** 2 * sd**2 + b[992] ** 2))
    assert mean < 0.01 * f


def test_the_exact_consistency_function_has_a_loss_that_falls_with_the_square_of_the_step():
    """Its two ends differ by O(h), whose mean given x_t is O(h^2): so twice as many levels, a fourth of the squares."""
    schedule, sd = Schedule.cosine(20_000), 0.28
    images = gaussian(4096, sd)
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    exact = Gains((a - sd / (a**2 * sd**2 + b**2).sqrt()) / b.clamp(min=1e-9))
    squares = []
    for levels in (24, 48, 96):
        objective = Consistency(schedule, levels=levels, at_top=0.01)
        losses = objective(exact, images, Draw(0, 0, 4096))
        squares.append(losses.parts["distance to the level below"].square().mean().item())
    assert squares[0] / squares[1] == pytest.approx(4, abs=0.6) and squares[1] / squares[2] == pytest.approx(4, abs=0.6)
    assert squares[-1] > 1e-6  # and it is not 0


class Table(nn.Module):
    """v as a polygon over x, another one at every time: can be any function of one pixel."""

    target, knots = "v", 25

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.zeros(1001, self.knots))

    def forward(self, x_t, t, y=None):
        place = (x_t.flatten().clamp(-3.4, 3.4) / 3.5 + 1) / 2 * (self.knots - 1)
        k = place.floor().long()
        return torch.lerp(self.v[t, k], self.v[t, k + 1], place - k).view_as(x_t)


def test_trained_on_two_clusters_it_leads_to_the_end_of_the_curve_where_denoising_leads_to_the_mean():
    """The end by quantiles (in one dimension a point keeps the share of the data on its left): at t = 992 the lower half of all
    noise belongs to the cluster at -0.6, the upper half to that at 0.6. The mean is near 0 everywhere."""
    g = torch.Generator().manual_seed(0)
    x = 0.6 * torch.randn(4096, generator=g).sign() + 0.1 * torch.randn(4096, generator=g).clamp(-3.5, 3.5)
    images = Images(x.view(-1, 1, 1, 1), torch.zeros(4096).long(), "clusters", "made")
    noise = torch.linspace(-2, 2, 41)
    noise = noise[noise.abs() > 0.25]
    inside = (2 * torch.special.ndtr(noise.double()) - (noise > 0).double()).clamp(1e-9, 1 - 1e-9)
    end = 0.6 * noise.sign() + 0.1 * torch.special.ndtri(inside)
    settings = dict(batch_size=256, optimizer="adamw", learning_rate=0.1, warmup=5, weight_decay=0.0, ema_decay=0.95)
    found = {}
    for objective in (Consistency(COSINE, softness=0.03), Denoising(COSINE, min_snr=None)):
        trainer = Trainer(Table(), objective, images, TrainConfig(**settings, gradient_clip=100.0, precision="float32"))
        list(trainer.steps(updates=400))
        *_, last = consistency_sample(trainer.ema.model, COSINE, noise.view(-1, 1, 1, 1))
        found[type(objective)] = last.x_t.flatten()
    assert (found[Consistency] - end).square().mean().sqrt() < 0.2
    assert (found[Denoising] - end).square().mean().sqrt() > 0.5


def test_a_run_of_it_is_kept_and_goes_on_bit_by_bit(few, tmp_path, run_of, same_run):
    objective = Consistency(COSINE, levels=9, at_top=0.5, softness=0.2, label_dropout=0.3)
    whole, half = (
        Trainer(network(num_classes=10), objective, few(64), TrainConfig(seed=3, batch_size=8, warmup=2)) for _ in "ab"
    )
    list(whole.steps(updates=8))
    for state in half.steps(updates=8):
        if state.update == 3:
            half.save(tmp_path)
            break
    again = Trainer.load(tmp_path, few(64))
    assert repr(again.objective) == repr(objective) and torch.equal(again.objective.times, objective.times)
    list(again.steps(updates=8))
    same_run(run_of(again), run_of(whole))
    model, schedule = load_model(tmp_path)
    assert schedule.T == 1000 and model.label_dropout == 0.3
    list(consistency_sample(model, schedule, torch.zeros(2, 1, 28, 28), y=[1, 2]))


@pytest.mark.parametrize("target", ["eps", "x0", None])
def test_it_asks_for_a_v_prediction(few, target):
    model = network(target=target or "v")
    model.target = target
    with pytest.raises(ValueError, match=rf'^model\.target must be "v" for consistency training: .*; got {target!r}$'):
        trainer_with(few, model, Consistency(COSINE))


def test_it_refuses_what_denoising_refuses(few):
    images = Images(few(8).x, torch.arange(1, 9), "letters", "mine")
    with pytest.raises(ValueError, match=r"^data\.y must hold labels 0\.\.7"):
        trainer_with(few, network(num_classes=8), Consistency(COSINE), images)
    with pytest.raises(ValueError, match=r"^x must .*\[-1, 1\]"):
        trainer_with(few, network(), Consistency(COSINE), Images((few(8).x + 1) / 2, few(8).y, "mine", "mine"))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(schedule="cosine"), "schedule must be a Schedule, got str"),
        (dict(levels=1), "levels must be an integer from 2 to T = 1000, got 1"),
        (dict(levels=12.0), "levels must be an integer from 2 to T = 1000, got 12.0"),
        (dict(at_top=0), "at_top must lie between 0 and 1, got 0"),
        (dict(at_top=1.0), "at_top must lie between 0 and 1, got 1.0"),
        (dict(softness=0.0), "softness must be a positive number, got 0.0"),
        (dict(softness=math.inf), "softness must be a positive number, got inf"),
        (dict(label_dropout=1.1), "label_dropout must lie in [0, 1], got 1.1"),
    ],
)
def test_a_wrong_setting_of_it_is_refused(settings, message, as_installed):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Consistency(**{"schedule": COSINE, **settings})


def test_more_levels_than_the_schedule_has_are_refused():
    with pytest.raises(
        ValueError, match=r"^levels must fit into the schedule, got 30: steps must be at most \d+, the number"
    ):
        Consistency(Schedule.cosine(30), levels=30)
