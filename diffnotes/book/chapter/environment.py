"""What this machine has, in one table: versions, images, processor."""

import html
import importlib.metadata
import os
import platform

import torch
from IPython.display import HTML, display

import diffnotes
from diffnotes.training.data import Images


def show_environment(images: Images) -> None:
    """Display the versions in use, where the images came from, the cores and the accelerator."""
    packages = ("torch", "jupyterlab", "ipywidgets", "ipykernel", "sympy", "matplotlib")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    if torch.cuda.is_available():
        accelerator = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        accelerator = "Apple GPU (mps)"
    else:
        accelerator = "none, and none is needed"
    rows = {
        "diffnotes": diffnotes.__version__,
        "Python": platform.python_version(),
        "packages": versions,
        "images": f"{len(images):,}: {images.source}",
        "processor": f"{os.cpu_count()} cores, {torch.get_num_threads()} used by PyTorch",
        "accelerator": accelerator,
    }
    cells = "".join(
        f"<tr><th style='text-align:left'>{k}</th><td style='text-align:left'>{html.escape(v)}</td></tr>"
        for k, v in rows.items()
    )
    display(HTML(f"<table>{cells}</table>"))
