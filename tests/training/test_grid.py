import numpy as np
import pytest
import torch

from diffnotes.training.grid import grid_image, to_uint8


def test_grey_values_of_the_range_are_0_to_255_and_what_lies_beyond_is_cut():
    x = torch.tensor([-1.0, 1.0, -7.0, 7.0, 0.0, 51 / 127.5 - 1])
    assert to_uint8(x).tolist() == [0, 255, 0, 255, 128, 51] and to_uint8(x).dtype == np.uint8


def test_every_grey_value_comes_back():
    assert to_uint8(torch.arange(256) / 127.5 - 1).tolist() == list(range(256))


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize(
    "number, columns, rows, across", [(6, 3, 2, 3), (5, None, 2, 3), (4, None, 2, 2), (1, None, 1, 1), (7, 2, 4, 2)]
)
def test_every_image_stands_at_its_place_enlarged_with_gaps_between(number, columns, rows, across, C):
    H, W, scale, gap = 3, 4, 3, 2
    x = (torch.arange(number * C * H * W) % 251).reshape(number, C, H, W) / 127.5 - 1
    image = grid_image(x, columns, scale=scale, gap=gap)
    assert image.mode == {1: "L", 3: "RGB"}[C]
    pixels = np.array(image).reshape(image.height, image.width, C)
    assert pixels.shape[:2] == (scale * (rows * (H + gap) - gap), scale * (across * (W + gap) - gap))
    expected = np.full(pixels.shape, 128)
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            i, r = divmod(row // scale, H + gap)
            j, c = divmod(column // scale, W + gap)
            n = i * across + j
            if r < H and c < W and n < number:
                expected[row, column] = [(((n * C + k) * H + r) * W + c) % 251 for k in range(C)]
    assert (pixels == expected).all()


@pytest.mark.parametrize(
    "x, came",
    [
        (torch.zeros(2, 2, 4, 4), r"shape \(2, 2, 4, 4\)"),
        (torch.zeros(2, 4, 4, 4), r"shape \(2, 4, 4, 4\)"),
        (torch.zeros(1, 28, 28), r"shape \(1, 28, 28\)"),
        (torch.zeros(0, 1, 28, 28), r"shape \(0, 1, 28, 28\)"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(x, came):
    with pytest.raises(ValueError, match=rf"^x must be a batch of images \(B, C, H, W\) with C = 1 or 3, got {came}$"):
        grid_image(x)


def test_integer_images_are_refused():
    with pytest.raises(
        ValueError, match=r"^x must be a tensor of floating-point numbers in \[-1, 1\], got dtype torch.uint8$"
    ):
        grid_image(torch.full((2, 1, 4, 4), 200, dtype=torch.uint8))


def test_images_with_nan_are_refused():
    with pytest.raises(ValueError, match=r"^x must be numbers in \[-1, 1\], got nan$"):
        to_uint8(torch.tensor([0.5, torch.nan]))


def test_infinite_values_are_cut_like_all_that_lie_beyond():
    assert to_uint8(torch.tensor([-torch.inf, torch.inf])).tolist() == [0, 255]


def test_half_precision_and_gradients_are_taken():
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0]).half()).tolist() == [0, 128, 255]
    assert to_uint8(torch.tensor([-1.0, 1.0], requires_grad=True)).tolist() == [0, 255]


@pytest.mark.parametrize("name, value", [("columns", 0), ("columns", -2), ("scale", 0), ("gap", -1)])
def test_numbers_that_make_no_grid_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be an integer from [01] to 1000, got {value}$"):
        grid_image(torch.zeros(2, 1, 4, 4), **{name: value})


def test_no_gap_at_all_is_a_grid_too():
    assert grid_image(torch.zeros(4, 3, 5, 7), columns=2, scale=1, gap=0).size == (14, 10)


def test_whole_numbers_of_numpy_are_taken():
    assert grid_image(torch.zeros(4, 1, 5, 7), np.int64(2), np.int32(1), np.uint8(0)).size == (14, 10)
