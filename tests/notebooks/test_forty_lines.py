"""The cell that ends part I: forty lines of plain PyTorch, which learn to draw digits that can be read."""

import ast
import re
from pathlib import Path

import nbformat
import torch
from torch import nn
from torch.nn import functional as F

from diffnotes import load_images
from diffnotes.training.metrics import features_and_probabilities

CELLS = {
    cell.id: cell
    for cell in nbformat.read(Path(__file__).parents[2] / "notebooks" / "09_guidance.ipynb", as_version=4).cells
}
LINES = CELLS["forty-lines"].source
GIVEN = {"torch", "nn", "F", "x0", "y", "updates"}  # PyTorch, the images with their labels, and how long


def test_they_are_forty_and_use_nothing_but_pytorch_and_the_images():
    assert sum(bool(line.strip()) for line in LINES.splitlines()) <= 40
    tree = ast.parse(LINES)
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    made = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    builtins = {"super", "range", "len", "min", "zip"}
    assert loaded - made - builtins <= GIVEN
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_they_learn():
    images = load_images("auto", "train")
    names = {"torch": torch, "nn": nn, "F": F, "x0": images.x, "y": images.y, "updates": 150}
    torch.manual_seed(0)
    exec(LINES, names)
    _, judged = features_and_probabilities(names["x"])
    named = (judged.argmax(1) == names["ask"]).double().mean()
    print(f"after 150 updates {named:.0%} are named as asked, loss {names['loss']:.2f}")
    assert named > 0.22  # by chance a tenth, with a standard error of 0.05


def test_what_is_stored_can_be_read():
    text = "".join(output.get("text", "") for output in CELLS["forty-picture"].outputs)
    assert int(re.search(r"(\d+)% are named as asked", text)[1]) >= 80
