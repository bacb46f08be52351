"""The bound as an objective: its mean is the bound of the chain, and it trains the head alone."""

import math

import pytest
import torch

from diffnotes import TrainConfig, Trainer, UNet, load_images
from diffnotes.models.grey import GreyDenoiser, GreyHead
from diffnotes.process.schedules import Schedule
from diffnotes.process.strides import strided_elbo
from diffnotes.training.objectives import Draw, Elbo, from_checkpoint, to_checkpoint

COSINE = Schedule.cosine()


def denoiser() -> GreyDenoiser:
    torch.manual_seed(0)
    unet = UNet(channels=8, multipliers=(1,), blocks=1, attention=0, patch=4, num_classes=10, target="v")
    return GreyDenoiser(unet, GreyHead(features=8, width=8, blocks=1, patch=4), COSINE.alpha_bar)


@pytest.mark.parametrize(("steps", "spacing"), [(5, "uniform"), (4, "quadratic")])
def test_its_mean_is_the_bound_of_the_chain(steps, spacing):
    model, images, size = denoiser().eval(), load_images("digits"), 96
    objective = Elbo(COSINE, steps=steps, spacing=spacing, at_decoder=0.4)
    with torch.no_grad():
        found = torch.cat([objective(model, images[:size], Draw(0, n, size)).total for n in range(6)])
    times = COSINE.subsequence(steps, spacing)
    g = torch.Generator().manual_seed(0)
    terms = strided_elbo(
        model, COSINE, images.x[:size], times=times.flip(0).tolist(), variance="mixture", decoder="grey", generator=g
    )
    bits = terms.bits_per_dim() - terms.prior / (784 * math.log(2))
    assert abs(found.mean() - bits.mean()) < 4 * found.std() / math.sqrt(len(found))


def test_the_parts_add_up_to_the_total():
    model, images = denoiser().eval(), load_images("digits")
    losses = Elbo(COSINE)(model, images[:32], Draw(0, 0, 32))
    torch.testing.assert_close(losses.total, sum(losses.parts.values()))
    assert int((losses.time_bin == 0).sum()) >= 16


def test_a_trainer_trains_the_head_and_leaves_the_network():
    model, images = denoiser(), load_images("digits")
    before = {name: weight.clone() for name, weight in model.unet.state_dict().items()}
    trainer = Trainer(model, Elbo(COSINE), images, TrainConfig(batch_size=16, warmup=2))
    states = list(trainer.steps(updates=12))
    assert all(torch.equal(before[name], weight) for name, weight in model.unet.state_dict().items())
    first, last = (sum(sum(state.parts.values()) for state in part) for part in (states[:3], states[-3:]))
    assert last < first


def test_it_comes_back_from_a_checkpoint():
    described, tables = to_checkpoint(Elbo(COSINE, steps=10))
    again = from_checkpoint(described, tables)
    assert again.steps == 10 and torch.equal(again.schedule.alpha_bar, COSINE.alpha_bar)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Elbo(COSINE, steps=1), "steps must be an integer from 2 to T = 1000, got 1"),
        (lambda: Elbo(COSINE, at_decoder=1.0), "at_decoder must lie between 0 and 1, got 1.0"),
        (lambda: Elbo(COSINE, spacing="even"), "spacing must be"),
        (
            lambda: Elbo(COSINE).check(UNet(8), load_images("digits")),
            "model must have .mixture, as models/grey.py has, got UNet",
        ),
        (lambda: Elbo(COSINE).check(denoiser(), [1, 2]), "data must be Images, with .x, got list"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
