"""The network for the pages: "mnist-small" as ONNX, with the schedule and the lists of times that its samplers visit.

python docs/live/export.py FOLDER      writes model.onnx and model.json there"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from diffnotes import load_pretrained
from diffnotes.process.samplers import times_visited
from diffnotes.process.solvers import karras_times

NETWORK = "mnist-small"
STEPS = (3, 4, 5, 6, 8, 10, 12, 16, 20, 30, 50)


class Plain(nn.Module):
    """The U-Net without the checks of its arguments, which an exported graph cannot hold: (x_t, t, y) -> v."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """v for images (B, 1, 28, 28) at times (B,) with labels (B,), 10 for "no label"."""
        unet = self.unet
        features = unet._through(unet._centred(x_t, t), unet._embedded(t, y, x_t.dtype))
        return unet._answer(features)


def export(folder: Path) -> None:
    """Write the network and what goes with it."""
    unet, schedule = load_pretrained(NETWORK)
    folder.mkdir(parents=True, exist_ok=True)
    example = (torch.zeros(2, 1, 28, 28), torch.tensor([1, 2]), torch.tensor([0, 10]))
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(
        Plain(unet), example, folder / "model.onnx", dynamo=True, external_data=False, verbose=False,
        input_names=["x_t", "t", "y"], output_names=["v"], dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
    )  # fmt: skip
    times = {
        "dpm++": {steps: karras_times(schedule, steps).tolist() for steps in STEPS},
        "ddim": {steps: times_visited(schedule, steps, "uniform", None, None)[::-1] for steps in STEPS},
    }
    facts = {
        "network": NETWORK,
        "parameters": sum(p.numel() for p in unet.parameters()),
        "alpha_bar": schedule.alpha_bar.tolist(),
        "times": times,
    }
    (folder / "model.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    export(Path(sys.argv[1]))
