"""Folders of pictures, which these tests draw: formats, classes, splits, crops, and what cannot be read."""

import hashlib
import io
import os
import re
import sys
import threading
import time
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes import Images, load_images
from diffnotes.training import pictures

RED, GREEN, BLUE, WHITE, BLACK = (220, 30, 40), (30, 180, 60), (20, 60, 200), (255, 255, 255), (0, 0, 0)


def drawn(colour=RED, height: int = 8, width: int = 8, spot=WHITE) -> Image.Image:
    """A plain picture whose upper left quarter has another colour."""
    image = Image.new("RGB", (width, height), colour)
    image.paste(spot, (0, 0, width // 2, height // 2))
    return image


def save(path: Path, image: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or drawn()).save(path, **options)
    return path


def fill(folder: Path, number: int = 20, **of_class) -> Path:
    """`number` pictures of each class (cats red, dogs green unless others are given), each a little different."""
    for label, colour in (of_class or {"cats": RED, "dogs": GREEN}).items():
        for i in range(number):
            save(folder / label / f"{i:03}.png", drawn(colour, spot=(i, i, 255)))
    return folder


def bytes_of(images: Images) -> np.ndarray:
    """The images as bytes (N, H, W, C): every value must be one of a byte, exactly."""
    levels = (images.x.double() + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4
    return levels.round().permute(0, 2, 3, 1).to(torch.uint8).numpy()


def both(name, **options) -> tuple[np.ndarray, list[str]]:
    """The bytes of the pictures of both splits, and the names of their classes, train before test."""
    parts = []
    for split in ("train", "test"):
        try:
            parts.append(load_images(name, split, **options))
        except ValueError as error:
            assert f"has no picture in its {split} split" in str(error)
    labels = [part.classes[label] for part in parts for label in part.y] if parts[0].classes else []
    return np.concatenate([bytes_of(part) for part in parts]), labels


def one(path: Path, **options) -> np.ndarray:
    """The bytes (H, W, C) of the one picture in the folder."""
    (found,), _ = both(path if path.is_dir() else path.parent, **options)
    return found


# -- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending, options", [("png", {}), ("bmp", {}), ("tiff", {}), ("webp", {"lossless": True}), ("ppm", {})]
)
def test_formats_without_loss_give_every_pixel(tmp_path, ending, options):
    image = drawn(RED, 6, 9)
    assert (one(save(tmp_path / f"a.{ending}", image, **options)) == np.asarray(image)).all()


def test_jpeg_gives_the_picture_up_to_its_loss(tmp_path):
    image = drawn(RED, 32, 48)
    found = one(save(tmp_path / "a.jpg", image, quality=95, subsampling=0))
    assert (
        np.abs(found.astype(int) - np.asarray(image)).max() < 40 and np.abs(found[24, 40].astype(int) - RED).max() < 4
    )


def test_first_picture_of_a_film_is_taken(tmp_path):
    frames = [drawn(RED), drawn(GREEN), drawn(BLUE)]
    save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (one(tmp_path) == np.asarray(drawn(RED))).all()


def test_palettes_become_their_colours(tmp_path):
    assert (one(save(tmp_path / "a.png", drawn(BLUE).quantize(4))) == np.asarray(drawn(BLUE))).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P of greys"])
def test_grey_pictures_have_one_channel(tmp_path, mode):
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    image = Image.fromarray(grey).convert("P" if mode.startswith("P") else mode)
    assert one(save(tmp_path / "a.png", image)).tolist() == [[[0], [255]], [[255], [0]]]


def test_sixteen_bits_become_eight(tmp_path):
    deep = np.array([[0, 257, 65535], [128 * 257 + 100, 32896, 1]], np.uint16)
    assert one(save(tmp_path / "a.png", Image.fromarray(deep))).tolist() == [[[0], [1], [255]], [[128], [128], [0]]]


@pytest.mark.parametrize(
    "mode, words", [("I", "its numbers have 32 bits"), ("F", "its numbers are floating-point ones")]
)
def test_pixels_whose_white_is_not_known_are_refused(tmp_path, mode, words):
    array = np.array([[0, 100_000]], np.int32 if mode == "I" else np.float32)
    save(tmp_path / "a.tiff", Image.fromarray(array))
    with pytest.raises(ValueError, match=rf"a.tiff: {words}.*, and what is white is not said"):
        load_images(tmp_path, pictures._split("a.tiff"))


def test_cmyk_and_ycbcr_become_rgb(tmp_path):
    save(tmp_path / "a.tiff", Image.new("CMYK", (4, 4), (0, 255, 255, 0)))
    assert (one(tmp_path) == (255, 0, 0)).all()


@pytest.mark.parametrize("alpha, expected", [(255, (200, 0, 100)), (0, (255, 255, 255)), (128, (227, 127, 177))])
def test_transparency_is_laid_on_white(tmp_path, alpha, expected):
    found = one(save(tmp_path / "a.png", Image.new("RGBA", (3, 3), (200, 0, 100, alpha))))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_transparency_of_greys_and_of_palettes_is_laid_on_white_too(tmp_path):
    save(tmp_path / "grey" / "a.png", Image.new("LA", (2, 2), (10, 0)))
    assert (one(tmp_path / "grey") == 255).all()
    palette = drawn(RED).quantize(4)
    seen = palette.getpixel((7, 7))
    save(tmp_path / "palette" / "a.png", palette, transparency=seen)
    found = one(tmp_path / "palette")
    assert (found[7, 7] == WHITE).all() and (found[0, 0] == WHITE).all()
    save(tmp_path / "key" / "a.png", drawn(BLUE), transparency=BLUE)
    assert (one(tmp_path / "key", channels=3) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("size", [None, 8])
def test_a_camera_that_was_held_otherwise_gives_the_same_picture(tmp_path, orientation, ending, size):
    turns = [
        None, None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_270,
    ]  # fmt: skip
    upright = drawn(RED, 16, 32)
    held = upright if orientation == 1 else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = one(save(tmp_path / f"a.{ending}", held, exif=exif), size=size)
    assert found.shape == ((16, 32, 3) if size is None else (8, 8, 3))
    assert (found[2, 2] > 200).all() and found[-2, -2, 0] > 180 and found[-2, -2, 1] < 80


# -- sizes and channels -----------------------------------------------------------------------------------------------


def test_height_and_width_may_differ(tmp_path):
    fill(tmp_path)
    for path in tmp_path.glob("*/*.png"):
        save(path, drawn(RED, 6, 10))
    images = load_images(tmp_path)
    assert images.item_shape == (3, 6, 10) and images.load == {"channels": 3}


def test_pictures_of_different_sizes_need_a_size_and_the_error_says_which_differ(tmp_path):
    for i in range(3):
        save(tmp_path / "cats" / f"{i}.png", drawn(RED, 6, 10))
    save(tmp_path / "dogs" / "wide.jpg", drawn(GREEN, 6, 12))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "dogs" / "turned.jpg", drawn(GREEN, 10, 6), exif=exif)
    with pytest.raises(ValueError) as error:
        load_images(tmp_path)
    assert str(error.value).splitlines() == [
        "size must be given, as in size=64, where the pictures have different sizes, here (height x width)",
        "  6 x 10: 4, as cats/0.png",
        "  6 x 12: 1, as dogs/wide.jpg",
    ]
    assert both(tmp_path, size=4)[0].shape == (5, 4, 4, 3)


def test_the_largest_square_in_the_middle_is_kept(tmp_path):
    wide = np.zeros((10, 31, 3), np.uint8)
    wide[:, 10:20] = GREEN
    save(tmp_path / "wide" / "a.png", Image.fromarray(wide))
    save(tmp_path / "high" / "a.png", Image.fromarray(wide.transpose(1, 0, 2)))
    found, labels = both(tmp_path, size=10)
    assert (found == GREEN).all() and sorted(labels) == ["high", "wide"]


def test_making_smaller_takes_in_all_pixels(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(one(save(tmp_path / "a.png", Image.fromarray(stripes)), size=8).astype(int) - 127.5).max() < 12


def test_a_large_jpeg_is_made_smaller_like_any_other_file(tmp_path):
    y, x = np.mgrid[:300, :400]
    waves = np.stack([np.sin(x / 9) * np.cos(y / 7), np.sin(y / 25), np.cos(x / 4)], axis=2)
    image = Image.fromarray((waves * 120 + 128).astype(np.uint8))
    save(tmp_path / "jpeg" / "a.jpg", image, quality=95, subsampling=0)
    save(tmp_path / "png" / "a.png", image)
    found = [one(tmp_path / kind, size=16).astype(int) for kind in ("jpeg", "png")]
    difference = np.abs(found[0] - found[1])
    assert difference.mean() < 4 and difference.max() < 20


@pytest.mark.parametrize("size", [1, 5, 8, 16])
def test_any_size_can_be_asked_for_and_is_kept_for_loading_again(tmp_path, size):
    images = load_images(fill(tmp_path), size=size)
    assert images.item_shape == (3, size, size) and images.load == {"size": size, "channels": 3}
    assert load_images(images.name, **images.load).digest() == images.digest()


def test_pictures_of_the_size_asked_for_keep_every_pixel(tmp_path):
    image = drawn(BLUE, 7, 7)
    assert (one(save(tmp_path / "a.png", image), size=7) == np.asarray(image)).all()


def test_colour_in_any_picture_makes_three_channels_in_both_splits(tmp_path):
    for i in range(30):
        save(tmp_path / f"{i}.png", Image.new("L", (4, 4), i * 8))
    grey = [load_images(tmp_path, split) for split in ("train", "test")]
    assert [images.item_shape for images in grey] == [(1, 4, 4)] * 2 and grey[0].load == {"channels": 1}
    save(tmp_path / "0.png", Image.new("RGB", (4, 4), RED))
    colour = [load_images(tmp_path, split) for split in ("train", "test")]
    assert [images.item_shape for images in colour] == [(3, 4, 4)] * 2
    assert {len(each.x) for each in grey} == {len(each.x) for each in colour}


def test_greys_stored_as_colours_are_grey(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", Image.new("L", (4, 4), i * 80).convert("RGB"))
        save(tmp_path / f"{i}.jpg", Image.new("L", (8, 8), i * 80).convert("RGB").resize((4, 4)))
    assert both(tmp_path)[0].shape == (6, 4, 4, 1)


def test_channels_can_be_asked_for(tmp_path):
    fill(tmp_path)
    grey, colour = load_images(tmp_path, channels=1), load_images(tmp_path, channels=3)
    assert grey.item_shape == (1, 8, 8) and grey.load == {"channels": 1}
    luma = bytes_of(colour).astype(float) @ (0.299, 0.587, 0.114)  # ITU-R 601-2
    assert np.abs(bytes_of(grey)[..., 0] - luma).max() < 1


# -- classes ----------------------------------------------------------------------------------------------------------


def test_subfolders_are_classes_in_the_order_of_their_names(tmp_path):
    fill(tmp_path, 10, zebras=BLACK, ants=RED, dogs=GREEN)
    images = load_images(tmp_path)
    assert images.classes == ("ants", "dogs", "zebras") and images.num_classes == 3
    corner = {0: RED, 1: GREEN, 2: BLACK}
    assert all((picture[7, 7] == corner[int(y)]).all() for picture, y in zip(bytes_of(images), images.y, strict=True))
    assert sorted(set(images.y.tolist())) == [0, 1, 2]


def test_pictures_without_folders_have_no_classes(tmp_path):
    for i in range(12):
        save(tmp_path / f"{i}.png")
    images = load_images(tmp_path)
    assert images.classes == () and images.num_classes == 1 and images.y.unique().tolist() == [0]


def test_all_that_lies_below_a_class_belongs_to_it(tmp_path):
    for i in range(8):
        save(tmp_path / "cats" / "persian" / f"{i}.png", drawn(RED))
        save(tmp_path / "cats" / f"{i}.png", drawn(BLUE))
        save(tmp_path / "dogs" / "2024" / "may" / f"{i}.png", drawn(GREEN))
    found, labels = both(tmp_path)
    colours = {RED: "cats", BLUE: "cats", GREEN: "dogs"}
    assert [colours[tuple(picture[7, 7].tolist())] for picture in found] == labels and len(labels) == 24


def test_pictures_beside_the_classes_are_named_and_left_out(tmp_path):
    fill(tmp_path)
    save(tmp_path / "stray.png", drawn(BLUE))
    with pytest.warns(
        UserWarning, match="stray.png: lies beside the folders of the classes, in none of them"
    ) as caught:
        images = load_images(tmp_path)
    assert len(caught) == 1 and images.classes == ("cats", "dogs") and (bytes_of(images)[:, 7, 7] != BLUE).any(1).all()


def test_a_folder_without_pictures_is_no_class(tmp_path):
    fill(tmp_path)
    (tmp_path / "birds").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read me.txt").write_text("about the pictures")
    with pytest.warns(UserWarning, match="notes/read me.txt: no picture in a format that Pillow reads"):
        assert load_images(tmp_path).classes == ("cats", "dogs")


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    fill(tmp_path)
    for name in (".hidden.png", "cats/.DS_Store", "cats/._000.png", ".git/a.png", "__MACOSX/cats/000.png"):
        save(tmp_path / name, format="png")
    (tmp_path / "cats" / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "desktop.ini").write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, labels = both(tmp_path)
    assert len(images) == 40 and set(labels) == {"cats", "dogs"}


def test_names_in_any_writing_are_kept(tmp_path):
    fill(tmp_path, 10, **{"猫": RED, "Käuze": GREEN, "name with spaces": BLUE})
    images = load_images(tmp_path)
    assert images.classes == ("Käuze", "name with spaces", "猫")


def test_accents_in_either_spelling_are_one_name_and_one_split(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Käuze/é") for form in ("NFC", "NFD"))
    assert composed != apart
    for i in range(30):
        save(tmp_path / "mac" / f"{apart}{i}.png", drawn(spot=(i, i, i)))
        save(tmp_path / "other" / f"{composed}{i}.png", drawn(spot=(i, i, i)))
    mac, other = load_images(tmp_path / "mac", "test"), load_images(tmp_path / "other", "test")
    assert mac.classes == other.classes == (composed.split("/")[0],) and mac.digest() == other.digest()


@pytest.mark.skipif(sys.platform != "linux", reason="only there may a name be any bytes")
def test_a_name_that_is_no_text_can_be_written_down(tmp_path):
    fill(tmp_path)
    folder = os.fsencode(tmp_path) + b"/k\xe4uze"
    os.mkdir(folder)
    with open(folder + b"/\xff.png", "wb") as file:
        file.write(b"nothing")
    for i in range(10):
        save(Path(os.fsdecode(folder)) / f"{i}.png")
    with pytest.warns(UserWarning, match="k\ufffduze/\ufffd.png: no picture"):
        found = [load_images(tmp_path, split) for split in ("train", "test")]
    assert found[0].classes == ("cats", "dogs", "k\ufffduze")


def symlink(link: Path, to: Path) -> None:
    try:
        link.symlink_to(to, target_is_directory=to.is_dir())
    except OSError:
        pytest.skip("links cannot be made here")


def test_links_are_followed_and_circles_end(tmp_path):
    fill(tmp_path / "elsewhere")
    folder = tmp_path / "mine"
    folder.mkdir()
    symlink(folder / "cats", tmp_path / "elsewhere" / "cats")
    (folder / "dogs").mkdir()
    symlink(folder / "dogs" / "one.png", tmp_path / "elsewhere" / "dogs" / "000.png")
    symlink(folder / "dogs" / "round", folder)
    symlink(folder / "dogs" / "gone.png", tmp_path / "nothing.png")
    with pytest.warns(UserWarning, match="dogs/gone.png: no file, or a link to one that is gone"):
        _, labels = both(folder)
    # the link back to the folder is not followed from inside it
    assert labels.count("cats") == 20 and labels.count("dogs") == 1


def test_one_folder_may_be_linked_twice(tmp_path):
    fill(tmp_path / "elsewhere", 10, cats=RED)
    (tmp_path / "mine").mkdir()
    for name in ("a", "b"):
        symlink(tmp_path / "mine" / name, tmp_path / "elsewhere" / "cats")
    assert sorted(both(tmp_path / "mine")[1]) == ["a"] * 10 + ["b"] * 10


# -- splits -----------------------------------------------------------------------------------------------------------


def test_one_in_ten_is_for_testing_and_none_is_in_both(tmp_path):
    for i in range(300):
        save(tmp_path / "cats" / f"{i}.png", Image.new("RGB", (2, 2), (i % 256, i // 256, 255)))
    train, test = load_images(tmp_path, "train"), load_images(tmp_path, "test")
    seen = {picture.tobytes() for picture in bytes_of(train)}, {picture.tobytes() for picture in bytes_of(test)}
    assert len(seen[0] | seen[1]) == 300 == len(train) + len(test)
    assert 15 <= len(test) <= 45
    assert train.source == "train split of the pictures in a folder (one in ten, by its path, is kept for testing)"


def test_the_split_is_a_function_of_the_path_inside_the_folder(tmp_path):
    names = [f"cats/{i}.png" for i in range(40)]
    for name in names:
        save(tmp_path / name, Image.new("L", (1, 1), int(name[5:-4])))
    # the rule, written down once more
    of_test = [n for n in names if int(hashlib.sha256(n.encode()).hexdigest()[:16], 16) % 10 == 0]
    assert of_test and sorted(bytes_of(load_images(tmp_path, "test")).ravel().tolist()) == sorted(
        int(n[5:-4]) for n in of_test
    )


def test_adding_pictures_moves_none_from_one_split_to_the_other(tmp_path):
    fill(tmp_path, 30)
    before = {split: {p.tobytes() for p in bytes_of(load_images(tmp_path, split))} for split in ("train", "test")}
    fill(tmp_path, 60, cats=RED, birds=BLUE)
    after = {split: {p.tobytes() for p in bytes_of(load_images(tmp_path, split))} for split in ("train", "test")}
    assert before["train"] < after["train"] and before["test"] < after["test"]


@pytest.mark.parametrize("train, test", [("train", "test"), ("Train", "TEST"), ("train", "val"), ("train", "valid")])
def test_folders_train_and_test_are_the_splits(tmp_path, train, test):
    fill(tmp_path / train, 5)
    fill(tmp_path / test, 3, dogs=GREEN, birds=BLUE)
    images, held_out = load_images(tmp_path), load_images(tmp_path, "test")
    assert images.classes == held_out.classes == ("birds", "cats", "dogs")
    assert images.y.tolist() == [1] * 5 + [2] * 5 and held_out.y.tolist() == [0] * 3 + [2] * 3
    assert (bytes_of(held_out)[:3, 7, 7] == BLUE).all() and (bytes_of(held_out)[3:, 7, 7] == GREEN).all()
    assert images.source == f"train split of the pictures in a folder (its folders {train} and {test} are the splits)"


def test_folders_train_and_test_may_hold_pictures_without_classes(tmp_path):
    for i in range(4):
        save(tmp_path / "train" / f"{i}.png")
    save(tmp_path / "test" / "0.png", drawn(BLUE))
    train, test = load_images(tmp_path), load_images(tmp_path, "test")
    assert (len(train), len(test)) == (4, 1) and train.classes == () and (bytes_of(test)[0, 7, 7] == BLUE).all()


def test_test_comes_before_validation(tmp_path):
    for split, number in (("train", 4), ("val", 3), ("test", 2)):
        fill(tmp_path / split, number)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_images(tmp_path, "test")) == 4


def test_what_lies_beside_the_folders_of_the_splits_is_named(tmp_path):
    for name in ("train", "Test", "extra"):
        fill(tmp_path / name, 2)
    save(tmp_path / "a.jpg")
    (tmp_path / "README.txt").write_text("about these pictures")
    with pytest.warns(UserWarning) as caught:
        assert len(load_images(tmp_path)) == 4
    assert str(caught[0].message).splitlines()[1:] == [
        "  a.jpg: lies beside the folders train and Test, in neither",
        "  extra: lies beside the folders train and Test, in neither",
    ]


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, 20, bus=RED, train=GREEN)
    assert load_images(tmp_path).classes == ("bus", "train")


def test_too_few_pictures_for_a_test_split_are_told(tmp_path):
    name = next(f"{i}.png" for i in range(99) if pictures._split(f"{i}.png") == "train")
    save(tmp_path / name)
    words = f"{tmp_path} has no picture in its test split, of 1 in all: one in ten, by its path, is kept for testing"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        load_images(tmp_path, "test")


def test_a_test_folder_without_the_classes_of_the_other_is_told(tmp_path):
    fill(tmp_path / "train", 2)
    save(tmp_path / "test" / "0.png")
    with pytest.raises(ValueError) as error:
        load_images(tmp_path, "test")
    assert str(error.value).splitlines() == [
        f"{tmp_path} has no picture in its test split, of 4 in all: its folders train and test are the splits; left out:",
        "  test/0.png: lies beside the folders of the classes, in none of them",
    ]


def test_a_bar_shows_itself_where_reading_takes_long(tmp_path, monkeypatch, capsys):
    fill(tmp_path, 4)
    load_images(tmp_path)
    assert capsys.readouterr().err == ""
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda *given: (time.sleep(0.3), decode(*given))[1])
    load_images(tmp_path, channels=3)
    assert "pictures: " in capsys.readouterr().err


# -- what cannot be read ----------------------------------------------------------------------------------------------


def png(**options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(
        buffer, "png", **options
    )
    return buffer.getvalue()


WHOLE = png()
UNREADABLE = {
    "empty": (b"", "the file is empty"),
    "text": (b"no picture\n", "no picture in a format that Pillow reads"),
    "zeros": (bytes(5000), "no picture in a format that Pillow reads"),
    "beginning only": (WHOLE[:40], "."),
    "cut off": (WHOLE[: len(WHOLE) // 2], "image file is truncated"),
    "damaged in the middle": (WHOLE[:3000] + b"\xff" * 40 + WHOLE[3040:], "."),
}


@pytest.mark.parametrize("content, words", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_cannot_be_read_is_named_with_the_reason_and_left_out(tmp_path, content, words):
    fill(tmp_path)
    name = next(f"{i}.png" for i in range(99) if pictures._split(f"cats/{i}.png") == "train")
    (tmp_path / "cats" / name).write_bytes(content)
    whole = 40 - len(
        [0 for path in tmp_path.glob("*/0*.png") if pictures._split(f"{path.parent.name}/{path.name}") == "test"]
    )
    with pytest.warns(UserWarning) as caught:
        images = load_images(tmp_path)
    first, line = str(caught[0].message).splitlines()
    assert first == f"1 of the files in {tmp_path} cannot be used:" and len(caught) == 1
    assert re.match(rf"  cats/{name}: .*{words}", line)
    assert len(images) == whole and images.classes == ("cats", "dogs")


def test_every_file_has_its_line_up_to_fifty(tmp_path):
    fill(tmp_path)
    for i in range(60):
        (tmp_path / "cats" / f"note {i:02}.txt").write_text("no picture")
    with pytest.warns(UserWarning) as caught:
        load_images(tmp_path)
    lines = str(caught[0].message).splitlines()
    assert lines[0] == f"60 of the files in {tmp_path} cannot be used:"
    assert lines[1:51] == [f"  cats/note {i:02}.txt: no picture in a format that Pillow reads" for i in range(50)]
    assert lines[51:] == ["  ... and 10 more"]


def test_a_folder_without_any_readable_picture_is_an_error_that_names_the_files(tmp_path):
    (tmp_path / "a.txt").write_text("no picture")
    (tmp_path / "b.png").touch()
    with pytest.raises(ValueError) as error:
        load_images(tmp_path)
    assert str(error.value).splitlines() == [
        f"no picture in {tmp_path} can be read:",
        "  a.txt: no picture in a format that Pillow reads",
        "  b.png: the file is empty",
    ]


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(
        ValueError, match=f"^no picture in {re.escape(str(tmp_path))} can be read:\n  there are no files in it$"
    ):
        load_images(tmp_path)


def test_a_folder_of_idx_files_names_the_way_to_read_them(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ValueError, match=re.escape(f'"idx:{tmp_path}" reads the IDX files in it')):
        load_images(tmp_path)


def test_pictures_that_all_break_off_are_an_error(tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.png").write_bytes(WHOLE[: len(WHOLE) // 2])
    with pytest.raises(
        ValueError, match=rf"^no picture of the train split in {re.escape(str(tmp_path))} can be read:\n  "
    ):
        load_images(tmp_path, size=8)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_a_pipe_does_not_block(tmp_path):
    fill(tmp_path)
    os.mkfifo(tmp_path / "cats" / "pipe.png")
    with pytest.warns(UserWarning, match="cats/pipe.png: no file, or a link to one that is gone"):
        thread = threading.Thread(target=load_images, args=(tmp_path,), daemon=True)
        thread.start()
        thread.join(60)
    assert not thread.is_alive()


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    fill(tmp_path)
    listed = Path.iterdir

    def refuse(self: Path):
        if self.name == "dogs":
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / 'dogs'))} cannot be listed: Permission denied$"):
        load_images(tmp_path)


# -- names of the folder ----------------------------------------------------------------------------------------------


def test_the_folder_may_be_a_path_a_text_or_have_a_variable_in_it(tmp_path, monkeypatch):
    fill(tmp_path / "my pictures é")
    for variable in ("HOME", "USERPROFILE", "PICTURES"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my pictures é"
    names = [path, str(path), "my pictures é", Path("my pictures é"), "~/my pictures é", "$PICTURES/my pictures é"]
    found = [load_images(name) for name in names]
    assert {images.digest() for images in found} == {found[0].digest()}
    assert [images.name for images in found] == [str(name) for name in names]


def test_a_folder_called_like_a_data_set_is_read_by_its_path(tmp_path, monkeypatch):
    fill(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_images("digits").item_shape == (1, 28, 28) and load_images("./digits").item_shape == (3, 8, 8)


def test_order_is_that_of_the_names_and_the_same_every_time(tmp_path):
    fill(tmp_path)
    first, again = load_images(tmp_path, channels=3), load_images(tmp_path, channels=3)
    assert torch.equal(first.x, again.x) and torch.equal(first.y, again.y)
    numbers = bytes_of(first)[first.y.numpy() == 0][:, 0, 0, 0]
    assert (np.diff(numbers.astype(int)) > 0).all()
