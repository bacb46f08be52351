"""The forward process and the single steps, element by element, against another implementation.

Where the conventions differ:
- diffusers counts from 0: its timestep is our t - 1, and our t = 0 (the clean image) is its "previous timestep" -1.
- Its tables are float32. 1 - alpha_bar_1 = 1e-4 then has an error of 3e-8 (three digits are left, see the last test).
  Most tests here put our float64 alpha_bar into the scheduler, to compare the formulas to 10 digits.
- Its DDPM step leaves the noise out at timestep 0 only; ours in every step that ends at the clean image. The two differ
  in a last step with a stride: there diffusers adds noise of variance beta' ("fixed_large") or 1e-20 ("fixed_small").
- Its DDIM step always goes down by T // num_inference_steps, whatever `timesteps` says.
- Its sub-sequence "trailing" is our "uniform" where S divides T.
"""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from diffnotes.process.forward import q_sample
from diffnotes.process.parameterize import v_from_x0_eps, x0_and_eps
from diffnotes.process.samplers import ddim_sample, ddim_step, ddpm_sample, ddpm_step
from diffnotes.process.schedules import Schedule

LINEAR = Schedule.linear()
PREDICTION = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCE = {"beta": "fixed_large", "beta_tilde": "fixed_small"}


def in_float64(scheduler):
    """The scheduler with our alpha_bar in its table; its entry 0 belongs to t = 1."""
    scheduler.alphas_cumprod = LINEAR.alpha_bar[1:].clone()
    return scheduler


def ddpm(variance: str = "beta_tilde", target: str = "eps") -> DDPMScheduler:
    settings = dict(variance_type=VARIANCE[variance], prediction_type=PREDICTION[target], clip_sample=False)
    return in_float64(DDPMScheduler(**settings))


def ddim(target: str = "eps") -> DDIMScheduler:
    settings = dict(prediction_type=PREDICTION[target], clip_sample=False, set_alpha_to_one=True)
    return in_float64(DDIMScheduler(timestep_spacing="trailing", **settings))


def images(generator, n: int = 3) -> tuple[torch.Tensor, ...]:
    return torch.randn(n, 4, 1, 3, 3, generator=generator, dtype=torch.float64).unbind(0)


class Linear:
    """A network whose prediction depends on x_t and on t."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, x_t, t, y=None):
        return 0.3 * x_t + t.to(x_t).reshape(-1, 1, 1, 1) / 2000


# -- forward --------------------------------------------------------------------------------------------------------


def test_noised_images_are_those_of_add_noise(generator):
    x0, eps, _ = images(generator)
    t = torch.tensor([1, 2, 500, 1000])
    theirs = ddpm().add_noise(x0, eps, t - 1)
    np.testing.assert_allclose(q_sample(LINEAR, x0, t, eps).numpy(), theirs.numpy(), rtol=1e-10)


def test_v_is_the_velocity(generator):
    x0, eps, _ = images(generator)
    t = torch.tensor([1, 2, 500, 1000])
    theirs = ddpm().get_velocity(x0, eps, t - 1)
    np.testing.assert_allclose(v_from_x0_eps(LINEAR, x0, eps, t).numpy(), theirs.numpy(), rtol=1e-10)


# -- DDPM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("t", [1, 2, 3, 250, 500, 999, 1000])
def test_ddpm_step_is_theirs(generator, t, variance, target):
    x_t, output, _ = images(generator)
    theirs = ddpm(variance, target).step(output, t - 1, x_t, generator=torch.Generator().manual_seed(1)).prev_sample
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x0_hat, _ = x0_and_eps(LINEAR, target, output, x_t, t)
    ours = ddpm_step(LINEAR, x0_hat, x_t, t, t - 1, noise, variance)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize(("t", "s"), [(1000, 700), (700, 333), (333, 20)])
def test_strided_ddpm_step_is_theirs(generator, t, s, variance):
    x_t, output, _ = images(generator)
    scheduler = ddpm(variance)
    scheduler.set_timesteps(timesteps=[999, 699, 332, 19])
    theirs = scheduler.step(output, t - 1, x_t, generator=torch.Generator().manual_seed(1)).prev_sample
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x0_hat, _ = x0_and_eps(LINEAR, "eps", output, x_t, t)
    ours = ddpm_step(LINEAR, x0_hat, x_t, t, s, noise, variance)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("variance", "left_over"), [("beta", math.sqrt(1 - LINEAR.alpha_bar[20].item())), ("beta_tilde", 1e-10)]
)
def test_last_ddpm_step_of_a_stride_is_theirs_less_the_noise(generator, variance, left_over):
    x_t, output, _ = images(generator)
    scheduler = ddpm(variance)
    scheduler.set_timesteps(timesteps=[999, 699, 332, 19])
    theirs = scheduler.step(output, 19, x_t, generator=torch.Generator().manual_seed(1)).prev_sample
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x0_hat, _ = x0_and_eps(LINEAR, "eps", output, x_t, 20)
    ours = ddpm_step(LINEAR, x0_hat, x_t, 20, 0, noise, variance)
    np.testing.assert_allclose(ours.numpy(), (theirs - left_over * noise).numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_ddpm_run_through_all_times_is_theirs(variance, target):
    schedule = Schedule.linear(50, 1e-3, 0.2)
    scheduler = DDPMScheduler(
        num_train_timesteps=50, variance_type=VARIANCE[variance], prediction_type=PREDICTION[target], clip_sample=False
    )
    scheduler.alphas_cumprod = schedule.alpha_bar[1:].clone()
    model, generator = Linear(target), torch.Generator().manual_seed(2)
    x_T = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x_T
    for timestep in range(49, -1, -1):
        output = model(x, torch.full((4,), timestep + 1))
        x = scheduler.step(output, timestep, x, generator=generator).prev_sample
    *_, last = ddpm_sample(model, schedule, x_T, variance=variance, generator=torch.Generator().manual_seed(2))
    np.testing.assert_allclose(last.x_t.numpy(), x.numpy(), rtol=1e-8, atol=1e-8)


# -- DDIM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("t", "stride"), [(1, 1), (2, 1), (500, 1), (1000, 1), (20, 20), (500, 100), (1000, 250)])
def test_ddim_step_is_theirs(generator, t, stride, eta, target):
    x_t, output, noise = images(generator)
    scheduler = ddim(target)
    scheduler.set_timesteps(1000 // stride)
    theirs = scheduler.step(output, t - 1, x_t, eta=eta, variance_noise=noise).prev_sample
    x0_hat, eps_hat = x0_and_eps(LINEAR, target, output, x_t, t)
    ours = ddim_step(LINEAR, x0_hat, eps_hat, t, t - stride, noise, eta)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
@pytest.mark.parametrize("S", [1, 4, 100])
def test_ddim_run_on_a_uniform_subsequence_is_their_trailing_run(target, S):
    scheduler, model = ddim(target), Linear(target)
    scheduler.set_timesteps(S)
    x_T = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x_T
    for timestep in scheduler.timesteps.tolist():
        x = scheduler.step(model(x, torch.full((4,), timestep + 1)), timestep, x).prev_sample
    *_, last = ddim_sample(model, LINEAR, x_T, steps=S)
    assert (last.x_t - x_T).abs().max() > 0.1
    np.testing.assert_allclose(last.x_t.numpy(), x.numpy(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [250, 500, 1000])
def test_clipped_ddim_step_is_theirs_with_the_noise_computed_anew(generator, t):
    x_t, output, noise = images(generator)
    scheduler = in_float64(DDIMScheduler(prediction_type="v_prediction", clip_sample=True))
    scheduler.set_timesteps(10)
    theirs = scheduler.step(output, t - 1, x_t, use_clipped_model_output=True).prev_sample

    class Answer:
        target = "v"

        def __call__(self, x_t, t, y=None):
            return output

    from diffnotes.process.samplers import predict

    x0_hat, eps_hat = predict(Answer(), LINEAR, x_t, t, clip=True)
    assert (x0_hat.abs() == 1).any()
    ours = ddim_step(LINEAR, x0_hat, eps_hat, t, t - 100, noise)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-9)


# -- their own float32 tables ---------------------------------------------------------------------------------------


def test_tables_are_theirs_to_float32_precision():
    theirs = DDPMScheduler().alphas_cumprod.double().numpy()
    # each of up to 1000 factors in (0.98, 1) is rounded to 6e-8; the errors add up in the logarithm
    np.testing.assert_allclose(LINEAR.alpha_bar[1:].numpy(), theirs, rtol=1000 * 6e-8, atol=0)


@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_steps_are_theirs_as_they_ship_to_float32_precision(generator, t):
    x_t, output, noise = images(generator)
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(1000)
    theirs = scheduler.step(output, t - 1, x_t, eta=1.0, variance_noise=noise).prev_sample
    x0_hat, eps_hat = x0_and_eps(LINEAR, "v", output, x_t, t)
    ours = ddim_step(LINEAR, x0_hat, eps_hat, t, t - 1, noise, 1.0)
    # an error of t * 6e-8 in alpha_bar is one of t * 6e-8 / sqrt(1 - alpha_bar) in its root and in sigma
    tolerance = 10 * t * 6e-8 / math.sqrt(1 - LINEAR.alpha_bar[t].item())
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=tolerance)
