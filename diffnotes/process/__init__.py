"""The mathematics of diffusion, in torch: schedules, forward process, parameterisations, losses, samplers."""
