"""Data, trainer, moving average, checkpoints."""
