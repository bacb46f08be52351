"""What all tests share. The import hook makes beartype check every jaxtyping shape of the package at run time."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

from collections.abc import Iterator

import jaxtyping
from jaxtyping import install_import_hook

install_import_hook(["diffnotes.process", "diffnotes.models", "diffnotes.training"], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

from diffnotes import Images, load_images  # noqa: E402


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with a fixed seed: the same numbers in every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def mnist_test() -> Images:
    """MNIST's test images. Without them the test is skipped, but not where DIFFNOTES_DATA says that they are there."""
    images = load_images("auto", "test")
    if images.name != "mnist":
        (pytest.fail if os.environ.get("DIFFNOTES_DATA") else pytest.skip)("MNIST is not here")
    return images


@pytest.fixture
def as_installed() -> Iterator[None]:
    """The package as a reader has it, without the type checks: for tests of what it says itself to wrong arguments."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
