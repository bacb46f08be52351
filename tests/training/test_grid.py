import numpy as np
import pytest
import torch

from diffnotes.training.grid import grid_image, to_uint8


def test_grey_values_of_the_range_are_0_to_255_and_what_lies_beyond_is_cut():
    x = torch.tensor([-1.0, 1.0, -7.0, 7.0, 0.0, 51 / 127.5 - 1])
    assert to_uint8(x).tolist() == [0, 255, 0, 255, 128, 51] and to_uint8(x).dtype == np.uint8


def test_every_grey_value_comes_back():
    assert to_uint8(torch.arange(256) / 127.5 - 1).tolist() == list(range(256))


@pytest.mark.parametrize(
    "number, columns, rows, across", [(6, 3, 2, 3), (5, None, 2, 3), (4, None, 2, 2), (1, None, 1, 1), (7, 2, 4, 2)]
)
def test_every_image_stands_at_its_place_enlarged_with_gaps_between(number, columns, rows, across):
    H, W, scale, gap = 3, 4, 3, 2
    x = (torch.arange(number * H * W) % 251).reshape(number, 1, H, W) / 127.5 - 1
    pixels = np.array(grid_image(x, columns, scale=scale, gap=gap))
    assert pixels.shape == (scale * (rows * (H + gap) - gap), scale * (across * (W + gap) - gap))
    expected = np.full(pixels.shape, 128)
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            i, r = divmod(row // scale, H + gap)
            j, c = divmod(column // scale, W + gap)
            n = i * across + j
            if r < H and c < W and n < number:
                expected[row, column] = (n * H * W + r * W + c) % 251
    assert (pixels == expected).all()


def test_colour_images_are_refused():
    with pytest.raises(
        ValueError, match=r"^x must be a batch of grey images \(B, 1, H, W\), got shape \(2, 3, 4, 4\)$"
    ):
        grid_image(torch.zeros(2, 3, 4, 4))


def test_image_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"got shape \(1, 28, 28\)$"):
        grid_image(torch.zeros(1, 28, 28))
