"""The game: losses against closed forms, the gradient penalty against a linear discriminator, turns, and resuming exactly."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from diffnotes import load_model
from diffnotes.models.gan import Discriminator, Generator
from diffnotes.training import checkpoint, loop
from diffnotes.training.adversarial import GanConfig, GanTrainer, gan_sample
from diffnotes.training.adversarial_losses import LOSSES, discriminator_loss, generator_loss, gradient_penalty
from diffnotes.training.loop import TrainingDiverged

# no setting has its default value
SETTINGS = dict(seed=3, batch_size=8, loss="hinge", r1=0.7, r1_every=3, learning_rates=(2e-3, 1e-3), betas=(0.4, 0.8))


@pytest.fixture
def make(few):
    """make(labels=..., ...): a small GAN on 40 digits."""

    def make(labels: bool = False, **settings) -> GanTrainer:
        torch.manual_seed(5)
        K = 10 if labels else None
        networks = Generator(dim=4, channels=3, num_classes=K), Discriminator(channels=3, spectral=True, num_classes=K)
        return GanTrainer(*networks, few(40), GanConfig(**{**SETTINGS, **settings}))

    return make


def run(trainer: GanTrainer) -> dict:
    """All that must be equal in two runs."""
    parts = {"g": trainer.generator, "d": trainer.discriminator, "ema": trainer.ema.model}
    kept = {f"{name} {k}": v.clone() for name, part in parts.items() for k, v in part.state_dict().items()}
    for name, optimizer in zip("gd", trainer.optimizers, strict=True):
        kept |= {k: v.clone() for k, v in loop.optimizer_tensors(optimizer, name).items()}
    kept["history"] = [dataclasses.replace(state, seconds=0.0) for state in trainer.history]
    return kept | {"updates": trainer.update, "average's updates": trainer.ema.updates}


def test_the_penalty_counts_half_of_gamma_and_for_all_the_updates_it_stands_for(make, monkeypatch):
    trainer, totals = make(r1=0.7, r1_every=3), []
    step = trainer._step

    def watched(optimizer, network, loss):
        if network is trainer.discriminator:
            totals.append(loss.item())
        return step(optimizer, network, loss)

    monkeypatch.setattr(trainer, "_step", watched)
    states = list(trainer.steps(updates=4))
    for n, (state, total) in enumerate(zip(states, totals, strict=True)):
        weight = 0.7 / 2 * 3 if n % 3 == 0 else 0
        penalty = state.parts["gradient penalty"]
        assert penalty > 0 and total == pytest.approx(state.parts["discriminator loss"] + weight * penalty, rel=1e-5)


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + (-logits.double()).exp())


def test_the_losses_are_those_of_the_probabilities(generator):
    real, fake = torch.randn(20, generator=generator), torch.randn(15, generator=generator)
    D_real, D_fake = probabilities(real), probabilities(fake)
    both = -(D_real.log().mean() + (1 - D_fake).log().mean())
    for kind in ("saturating", "non-saturating"):
        assert float(discriminator_loss(kind, real, fake)) == pytest.approx(float(both), rel=1e-6)
    assert float(generator_loss("saturating", fake)) == pytest.approx(float((1 - D_fake).log().mean()), rel=1e-6)
    assert float(generator_loss("non-saturating", fake)) == pytest.approx(float(-D_fake.log().mean()), rel=1e-6)
    hinge = sum(max(0, 1 - v) for v in real.tolist()) / 20 + sum(max(0, 1 + v) for v in fake.tolist()) / 15
    assert float(discriminator_loss("hinge", real, fake)) == pytest.approx(hinge, rel=1e-6)
    assert float(generator_loss("hinge", fake)) == pytest.approx(-float(fake.mean()), rel=1e-6)


def test_the_losses_stay_finite_where_a_probability_would_be_0_or_1():
    far = torch.tensor([-1e4, 1e4])
    for kind in LOSSES:
        assert math.isfinite(discriminator_loss(kind, far, far)) and math.isfinite(generator_loss(kind, far))


def test_the_penalty_of_a_linear_discriminator_is_the_square_of_its_weights_and_has_a_gradient(generator):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(6, 1), nn.Flatten(0))
    x = torch.randn(4, 1, 2, 3, generator=generator)
    penalty = gradient_penalty(linear, x)
    torch.testing.assert_close(penalty, linear[1].weight.square().sum().expand(4))
    penalty.mean().backward()
    torch.testing.assert_close(linear[1].weight.grad, 2 * linear[1].weight)


def test_the_penalty_of_each_item_is_its_own(generator):
    network, x = Discriminator(channels=2), torch.randn(5, 1, 28, 28, generator=generator)
    step, direction = 1e-3, torch.nn.functional.normalize(torch.randn(28 * 28, generator=generator), dim=0)
    network, x, moved = network.double(), x.double(), step * direction.double().reshape(1, 1, 28, 28)
    one_by_one = torch.cat([gradient_penalty(network, part) for part in x.split(1)])
    torch.testing.assert_close(gradient_penalty(network, x), one_by_one)
    slope = (network(x + moved) - network(x - moved)) / (2 * step)
    assert (slope.square() <= one_by_one * 1.01).all()  # in any direction at most the gradient's norm


def test_each_turn_moves_one_network_with_its_own_loss(make):
    trainer = make(r1=0.0, batch_size=40, loss="non-saturating")
    before, G, D = run(trainer), trainer.generator, trainer.discriminator
    copy_g, copy_d = Generator(**G.settings), Discriminator(**D.settings)
    copy_g.load_state_dict(G.state_dict())
    copy_d.load_state_dict(D.state_dict())
    state = next(trainer.steps(updates=4))
    x = trainer.data[trainer._batches(0)].x
    z = torch.randn(40, 4, generator=loop.Draw(3, 0, 40)("noise"))
    fake = copy_g(z)
    loss = -torch.sigmoid(copy_d(x)).log().mean() - (1 - torch.sigmoid(copy_d(fake.detach()))).log().mean()
    assert state.loss == state.parts["discriminator loss"] == pytest.approx(loss.item(), rel=1e-5)
    adam = torch.optim.Adam(copy_d.parameters(), 1e-3, (0.4, 0.8))
    loss.backward()
    adam.step()
    for mine, theirs in zip(D.parameters(), copy_d.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    loss_g = -torch.sigmoid(copy_d(fake)).log().mean()  # against the discriminator that has had its turn
    assert state.parts["generator loss"] == pytest.approx(loss_g.item(), rel=1e-4)
    copy_g.zero_grad()
    loss_g.backward()
    torch.optim.Adam(copy_g.parameters(), 2e-3, (0.4, 0.8)).step()
    for (name, mine), theirs in zip(G.named_parameters(), copy_g.parameters(), strict=True):
        if "bias" not in name:  # those before a normalisation have the gradient 0, and Adam the sign of its rounding
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(before[f"g {k}"], v) for k, v in G.state_dict().items())


def test_the_penalty_comes_every_third_time_and_is_shown_meanwhile(make):
    trainer = make()
    shown = [state.parts["gradient penalty"] for state in trainer.steps(updates=7)]
    assert shown[0] == shown[1] == shown[2] != shown[3] == shown[4] == shown[5] != shown[6] and min(shown) > 0


def test_the_learning_rates_fall_to_0_in_the_last_quarter(make):
    rates = [state.learning_rate for state in make().steps(updates=8)]
    assert rates == pytest.approx([2e-3] * 7 + [1e-3])


@pytest.mark.parametrize("labels", [False, True])
def test_a_run_goes_on_exactly_where_it_was_saved(make, few, tmp_path, labels):
    whole, half = make(labels), make(labels)
    for _ in whole.steps(updates=12):
        pass
    for state in half.steps(updates=12):
        if state.update == 7:
            break
    half.save(tmp_path)
    again = GanTrainer.load(tmp_path, few(40))
    for _ in again.steps(updates=12):
        pass
    one, other = run(whole), run(again)
    assert one.keys() == other.keys() and one["updates"] == 12
    assert not [
        k for k in one if not (torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k])
    ]
    assert again.config == whole.config and len(again.loss_by_time) == 12


def test_load_model_gives_the_averaged_generator(make, tmp_path):
    trainer = make(labels=True)
    for _ in trainer.steps(updates=3):
        pass
    trainer.save(tmp_path)
    model, schedule = load_model(tmp_path)
    assert schedule is None and model.item_shape == (1, 28, 28)
    assert torch.equal(gan_sample(model, 5, labels=True), gan_sample(trainer.ema.model, 5, labels=True))


def test_other_images_and_other_runs_are_refused(make, few, make_trainer, tmp_path):
    make().save(tmp_path / "gan")
    with pytest.raises(ValueError, match=r"was trained on 40 images of digits, got .*: other sha256"):
        GanTrainer.load(tmp_path / "gan", few(39))
    make_trainer().save(tmp_path / "unet")
    with pytest.raises(ValueError, match="folder must hold a run of a GanTrainer, got one of a Trainer"):
        GanTrainer.load(tmp_path / "unet", few(64))


def test_samples_depend_on_seed_and_number_only(make):
    model = make().generator
    drawn = gan_sample(model, 103, seed=2)
    assert drawn.shape == (103, 1, 28, 28) and model.training
    torch.testing.assert_close(gan_sample(model, 5, seed=2), drawn[:5])
    assert not torch.equal(gan_sample(model, 5, seed=3), drawn[:5])
    asked = torch.tensor([7, 7, 1])
    model = make(labels=True).ema.model
    torch.testing.assert_close(
        gan_sample(model, 3, labels=asked)[1:2], gan_sample(model, 8, labels=torch.full((8,), 7))[1:2]
    )


def test_a_loss_that_is_no_number_ends_the_run(make):
    trainer = make()
    next(trainer.steps(updates=9))
    with torch.no_grad():
        trainer.discriminator.logit.bias.fill_(math.nan)
    before = run(trainer)
    with pytest.raises(TrainingDiverged, match="update 2: the loss of the Discriminator is nan"):
        next(trainer.steps(updates=9))
    after = run(trainer)
    assert all(
        torch.equal(before[k], after[k]) for k in before if k.startswith("g ") and "running" not in k and "num" not in k
    )


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused(make, few, tmp_path):
    G, D, images, few_logits = Generator(4, 3), Discriminator(3), few(40), torch.zeros(2)
    for call, words in (
        (lambda: GanConfig(loss="wgan"), 'loss must be one of "non-saturating", "saturating", "hinge", got \'wgan\''),
        (lambda: GanConfig(r1=-1), "r1 must be a number >= 0, got -1"),
        (lambda: GanConfig(learning_rates=1e-3), "learning_rates must be two numbers, got 0.001"),
        (lambda: GanConfig(learning_rates=(1e-3, 0)), "learning_rates must hold positive numbers, got 0"),
        (lambda: GanConfig(betas=(0.5, 1)), r"betas must hold numbers in \[0, 1\), got 1"),
        (lambda: discriminator_loss("hinge", few_logits, few_logits.long()), "fake must hold floating-point numbers"),
        (lambda: discriminator_loss("hinge", few_logits[:0], few_logits), "real must hold a logit for each of one"),
        (lambda: gradient_penalty(lambda x: x.mean(), few_logits[:, None]), "discriminator must answer with a logit"),
        (lambda: generator_loss("real", few_logits), "kind must be one of"),
        (lambda: GanTrainer(None, D, images), "generator must be a torch.nn.Module with weights, got None"),
        (lambda: GanTrainer(D, D, images), "generator must have dim, the numbers of its noise z, got Discriminator without"),
        (lambda: GanTrainer(G, D, [1, 2]), "images must be Images, or have __len__"),
        (lambda: GanTrainer(G, D, images, 3), "config must be a GanConfig, or None for the usual settings, got int"),
        (lambda: GanTrainer(G, D, images), "batch_size must be at most the number of images, 40, got 64"),
        (lambda: GanTrainer(G, Discriminator(3, num_classes=10), images, GanConfig(batch_size=8)), "discriminator must take the"),
        (lambda: make().steps(), "give a budget either in updates or in seconds"),
        (lambda: gan_sample(G, 3, labels=True), "labels must be False: this generator takes none, got True"),
        (lambda: gan_sample(Generator(4, 3, 10), 3), "labels must be True or hold labels for a generator that takes them"),
        (lambda: checkpoint.read(tmp_path), "there is no checkpoint"),
    ):  # fmt: skip
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            call()
