"""Networks of diffusers and functions of one's own, sampled here and by diffusers' own pipelines with the same noise."""

import copy
import logging

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, EulerDiscreteScheduler, UNet2DModel
from torch import nn

from diffnotes.process.adapters import DiffusersDenoiser, FunctionDenoiser, Pair, schedule_from_diffusers
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.losses import simple_loss
from diffnotes.process.samplers import ddim_sample, ddpm_sample
from diffnotes.process.schedules import Schedule

TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SIZES = dict(
    sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4
)
BLOCKS = dict(down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))


@pytest.fixture(autouse=True)
def quiet():
    diffusers.utils.logging.disable_progress_bar()
    logging.getLogger("diffusers").setLevel(logging.ERROR)


def network(**settings) -> UNet2DModel:
    """A tiny random UNet2DModel for 8 x 8 pictures in colour."""
    torch.manual_seed(0)
    return UNet2DModel(**SIZES, **BLOCKS, **settings).eval()


def pictures(pipeline, batch: int, seed: int, steps: int, **options) -> torch.Tensor:
    """The pipeline's pictures, (B, 3, 8, 8) in [0, 1]."""
    pipeline.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(seed)
    drawn = pipeline(batch_size=batch, generator=g, num_inference_steps=steps, output_type="np", **options).images
    return torch.from_numpy(drawn).permute(0, 3, 1, 2)


def ours(sampler, model, schedule, batch: int, seed: int, **options) -> torch.Tensor:
    """The same of our sampler, with noise from the same generator in the same order."""
    g = torch.Generator().manual_seed(seed)
    x_T = torch.randn(batch, 3, 8, 8, generator=g)
    *_, last = sampler(model, schedule, x_T, generator=g, **options)
    return (last.x_t / 2 + 0.5).clamp(0, 1)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape and a.std() > 0.05  # not all black or white
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("clip", [False, True])
def test_the_ddpm_pipelines_pictures(kind, clip):
    scheduler = DDPMScheduler(num_train_timesteps=40, beta_end=0.3, prediction_type=kind, clip_sample=clip)
    theirs = pictures(DDPMPipeline(network(), scheduler), 3, seed=5, steps=40)
    model = DiffusersDenoiser(network(), scheduler=scheduler)
    assert model.target == TYPES[kind]
    close(ours(ddpm_sample, model, schedule_from_diffusers(scheduler), 3, seed=5, clip=clip), theirs)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_ddim_pipelines_pictures_at_its_own_timesteps(kind, eta, spacing):
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", prediction_type=kind, timestep_spacing=spacing)
    pipeline = DDIMPipeline(network(), scheduler)
    theirs = pictures(pipeline, 3, 6, steps=10, eta=eta, use_clipped_model_output=True)
    times = [int(timestep) + 1 for timestep in pipeline.scheduler.timesteps]
    assert times[0] == (901 if spacing == "leading" else 1000)
    model, schedule = DiffusersDenoiser(pipeline.unet, TYPES[kind]), schedule_from_diffusers(scheduler)
    close(ours(ddim_sample, model, schedule, 3, seed=6, times=times, eta=eta, clip=True), theirs)


def test_their_time_is_ours_less_one():
    seen = []

    class Recorder(nn.Module):
        def forward(self, sample, timestep):
            seen.append(timestep.tolist())
            return (sample,)  # with return_dict=False they give a tuple

    model = DiffusersDenoiser(Recorder())
    assert torch.equal(model(torch.ones(2, 3, 8, 8), torch.tensor([1, 1000])), torch.ones(2, 3, 8, 8))
    model(torch.ones(2, 3, 8, 8), 7)
    assert seen == [[0, 999], [6, 6]]


def test_labels_are_passed_on_and_none_is_the_null_label_after_the_classes():
    net, x, t = network(num_class_embeds=4), torch.randn(2, 3, 8, 8), torch.tensor([3, 50])
    model = DiffusersDenoiser(net, num_classes=3)
    assert (model.num_classes, DiffusersDenoiser(net).num_classes) == (3, 4)
    with torch.no_grad():
        for y in (torch.tensor([2, 0]), [2, 0], np.array([2, 0])):
            assert torch.equal(model(x, t, y), net(x, t - 1, class_labels=torch.tensor([2, 0])).sample)
        assert torch.equal(model(x, t), net(x, t - 1, class_labels=torch.tensor([3, 3])).sample)
        guided = ClassifierFreeGuidance(model, 2.0)(x, t, torch.tensor([2, 0]))
        torch.testing.assert_close(guided, 2 * model(x, t, [2, 0]) - model(x, t))


def test_labels_that_the_network_has_not_are_refused():
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 50])
    with pytest.raises(ValueError, match=r"^y was given, but this network has no class embedding$"):
        DiffusersDenoiser(network())(x, t, [1, 2])
    model = DiffusersDenoiser(network(num_class_embeds=4))
    for y in (None, [0, 4], [-1, 0]):
        with pytest.raises(
            ValueError, match=r"^y must hold labels 0\.\.3, the rows of the class embedding; a null label "
        ):
            model(x, t, y)
    with pytest.raises(ValueError, match=r"^num_classes must be an integer from 1 to the rows .*, 4, got 5$"):
        DiffusersDenoiser(network(num_class_embeds=4), num_classes=5)
    with pytest.raises(ValueError, match=r"^num_classes was given, but this network has no class embedding$"):
        DiffusersDenoiser(network(), num_classes=5)


def test_it_is_trained_and_saved_like_a_network_of_ours(generator):
    net = network()
    model, schedule = DiffusersDenoiser(net, target="v").train(), Schedule.cosine(20)
    assert (model.item_shape, model.classes, model.label_dropout) == ((3, 8, 8), (), None)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    x0, losses = torch.rand(16, 3, 8, 8, generator=generator) * 2 - 1, []
    t, eps = torch.randint(1, 21, (16,), generator=generator), torch.randn(16, 3, 8, 8, generator=generator)
    for _ in range(30):
        loss = simple_loss(model, schedule, x0, t, eps).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    again = DiffusersDenoiser(network(), target="v")
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    x, t = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([3, 20])
    assert torch.equal(again.eval()(x, t), model.eval()(x, t))
    assert set(model.state_dict()) == {f"network.{name}" for name in net.state_dict()}


def test_what_is_no_network_or_scheduler_is_refused(as_installed):
    with pytest.raises(ValueError, match=r"^network must be a torch\.nn\.Module, got DDPMScheduler$"):
        DiffusersDenoiser(DDPMScheduler())
    with pytest.raises(ValueError, match=r"^target must be 'v', as scheduler says, got 'eps'$"):
        DiffusersDenoiser(network(), "eps", scheduler=DDPMScheduler(prediction_type="v_prediction"))
    with pytest.raises(ValueError, match=r'^target must be one of "eps", "x0", "v", "u", got \'noise\'$'):
        DiffusersDenoiser(network(), "noise")
    with pytest.raises(ValueError, match=r"^scheduler must have a prediction_type out of .*, got None$"):
        DiffusersDenoiser(network(), scheduler=Schedule.linear())
    with pytest.raises(
        ValueError, match=r"^scheduler must have a table alphas_cumprod, as DDPMScheduler .*, got UNet2DModel$"
    ):
        schedule_from_diffusers(network())


@pytest.mark.parametrize("settings", [{}, {"beta_schedule": "squaredcos_cap_v2"}, {"rescale_betas_zero_snr": True}])
def test_a_schedule_has_the_tables_of_the_scheduler(settings):
    scheduler = DDIMScheduler(**settings)
    schedule = schedule_from_diffusers(scheduler)
    assert schedule.T == 1000 and schedule.name == "DDIMScheduler"
    torch.testing.assert_close(schedule.alpha_bar[1:].float(), scheduler.alphas_cumprod, rtol=1e-6, atol=0)
    torch.testing.assert_close(schedule.beta[1:].float(), scheduler.betas, rtol=2e-3, atol=1e-6)  # they keep float32
    assert schedule_from_diffusers(EulerDiscreteScheduler()).T == 1000


# -- functions of one's own -------------------------------------------------------------------------------------------


def test_a_function_of_an_image_and_a_time_becomes_a_denoiser():
    model, x, t = FunctionDenoiser(lambda x_t, t: x_t * t[:, None], target="x0"), torch.ones(2, 3), [4, 5]
    assert model(x, t).tolist() == [[4, 4, 4], [5, 5, 5]]
    *_, last = ddim_sample(model, Schedule.linear(), x, steps=2)
    assert last.t == 0
    with pytest.raises(ValueError, match=r"^y was given, but this function was wrapped without num_classes$"):
        model(x, t, [0, 1])


def test_a_function_with_classes_gets_the_labels_and_a_module_its_weights_trained():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x_t, t, y):
            return x_t * self.weight + (0 if y is None else y[:, None])

    model = FunctionDenoiser(Own(), "v", num_classes=2)
    assert list(model.state_dict()) == ["function.weight"]
    assert model(torch.ones(2, 3), 4, [0, 1]).tolist() == [[1, 1, 1], [2, 2, 2]]
    simple_loss(model, Schedule.linear(), torch.ones(2, 3), torch.tensor([4, 5]), torch.ones(2, 3)).sum().backward()
    assert (model.function.weight.grad != 0).all()


def test_what_cannot_be_called_is_refused(as_installed):
    with pytest.raises(
        ValueError, match=r"^function must be a function that can be called as function\(x_t, t\), got 3$"
    ):
        FunctionDenoiser(3)
    with pytest.raises(ValueError, match=r"^with_label must be a function that can be called as .*, got 3$"):
        Pair(abs, 3)
    with pytest.raises(ValueError, match=r"^target must be .*, got 'image'$"):
        Pair(abs, abs, "image")


def test_a_pair_is_asked_with_a_label_or_without_and_guidance_takes_both():
    pair, x, y = Pair(lambda x_t, t: x_t * t, lambda x_t, t: x_t + t), torch.ones(2, 3), torch.tensor([0, 1])
    t = torch.tensor(4)
    assert pair(x, t).tolist() == [[4] * 3] * 2 and pair(x, t, y).tolist() == [[5] * 3] * 2
    assert (pair.target, Pair(abs, abs, "v").target) == ("x0", "v")
    guided = ClassifierFreeGuidance(Pair(lambda x_t, t: 0 * x_t, lambda x_t, t: x_t), 3)
    assert guided(x, t.expand(2), y).tolist() == [[3] * 3] * 2  # 0 + 3 (1 - 0)
