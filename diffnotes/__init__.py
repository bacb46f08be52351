"""diffnotes: the mathematics, the U-Net, the trainer and the samplers of an interactive textbook on diffusion models."""

from diffnotes.models.coupling import RealNVP
from diffnotes.models.unet import UNet
from diffnotes.process.consistency import consistency_sample
from diffnotes.process.elbo import ElboTerms, elbo_terms
from diffnotes.process.flow import flow_sample, flow_schedule
from diffnotes.process.forward import q_posterior, q_sample, q_step
from diffnotes.process.samplers import Frame, ddim_invert, ddim_sample, ddpm_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, heun_sample, karras_times
from diffnotes.training.config import TrainConfig, TrainState
from diffnotes.training.data import DataUnavailable, Images, load_images
from diffnotes.training.objectives import Consistency, Denoising, Likelihood
from diffnotes.training.pretrained import load_pretrained
from diffnotes.training.restore import load_model
from diffnotes.training.trainer import Trainer

__version__ = "0.1.0"
__all__ = [
    "Consistency",
    "DataUnavailable",
    "Denoising",
    "ElboTerms",
    "Frame",
    "Images",
    "Likelihood",
    "RealNVP",
    "Schedule",
    "TrainConfig",
    "TrainState",
    "Trainer",
    "UNet",
    "consistency_sample",
    "ddim_invert",
    "ddim_sample",
    "ddpm_sample",
    "dpm_solver_sample",
    "elbo_terms",
    "flow_sample",
    "flow_schedule",
    "heun_sample",
    "initial_noise",
    "karras_times",
    "load_images",
    "load_model",
    "load_pretrained",
    "q_posterior",
    "q_sample",
    "q_step",
]
