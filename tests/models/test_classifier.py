import json

import numpy as np
import pytest
import torch

from diffnotes.models.classifier import Classifier


def test_settings_build_the_same_classifier_again():
    model = Classifier(width=np.int64(2), dim=np.int64(3), num_classes=4).eval()
    again = Classifier(**json.loads(json.dumps(model.settings))).eval()
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), model(x)) and again(x).shape == (2, 4) and model.features(x).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Classifier(width=0), r"^width must be at least 1, got 0$"),
        (lambda: Classifier(dim=2.0), r"^dim must be an integer, got 2\.0$"),
        (lambda: Classifier(num_classes="ten"), r"^num_classes must be an integer, got 'ten'$"),
        (lambda: Classifier(2, 3)(torch.zeros(28, 28)), r"^x must have shape \(B, 1, 28, 28\), got \(28, 28\)$"),
        (lambda: Classifier(2, 3)(torch.zeros(2, 1, 28, 28).byte()), r"^x must be a floating-point tensor of shape "),
        (
            lambda: Classifier(2, 3).features(torch.zeros(2, 1, 28, 28).double()),
            r"^x must have the dtype of the network's weights",
        ),
    ],
)
def test_arguments_that_are_none_are_refused_by_name(as_installed, call, expected):
    with pytest.raises(ValueError, match=expected):
        call()
