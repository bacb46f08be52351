"""diffnotes: the mathematics, the U-Net, the trainer and the samplers of an interactive textbook on diffusion models."""

from diffnotes.process.forward import q_posterior, q_sample, q_step
from diffnotes.process.samplers import Frame, ddim_invert, ddim_sample, ddpm_sample, initial_noise
from diffnotes.process.schedules import Schedule

__version__ = "0.1.0"
__all__ = [
    "Frame",
    "Schedule",
    "ddim_invert",
    "ddim_sample",
    "ddpm_sample",
    "initial_noise",
    "q_posterior",
    "q_sample",
    "q_step",
]
