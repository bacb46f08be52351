import bz2
import gzip
import hashlib
import http.server
import lzma
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import sklearn.datasets
import torch

from diffnotes import DataUnavailable, load_images
from diffnotes.training import data

ROOT = Path(__file__).resolve().parents[2]
REAL_MNIST = os.environ.get("DIFFNOTES_DATA")
NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def small_mnist() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A few images of random pixels, in which 0 and 255 occur, and labels, for both splits."""
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)) for split, n in (("train", 5), ("test", 3))
    }
    for pixels, _ in splits.values():
        pixels[0, 0, :2] = 0, 255
    return splits


SMALL = small_mnist()
FILES = {}  # the unpacked files, in the format of yann.lecun.com: big-endian, magic number, sizes, bytes
for split, (pixels, labels) in SMALL.items():
    FILES[NAMES[split][0]] = struct.pack(">IIII", 2051, len(pixels), 28, 28) + pixels.astype(np.uint8).tobytes()
    FILES[NAMES[split][1]] = struct.pack(">II", 2049, len(labels)) + labels.astype(np.uint8).tobytes()
IMAGES, LABELS = NAMES["train"]


class Mirror:
    """An HTTP server on this machine. answers[file] lists what it says to one request after the other, the last one for
    ever: bytes, a status, or ("cut", bytes) to break off half way. `asked` lists the files that were asked for."""

    def __init__(self, answers: dict[str, list]) -> None:
        mirror = self
        self.answers, self.asked = {name: list(said) for name, said in answers.items()}, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                mirror.asked.append(name)
                said = mirror.answers.get(name, [404])
                answer = said.pop(0) if len(said) > 1 else said[0]
                status = answer if isinstance(answer, int) else 200
                body = answer[1] if isinstance(answer, tuple) else b"" if isinstance(answer, int) else answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if isinstance(answer, tuple) else body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def closed_port() -> str:
    """The address of a server that is not there."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


GOOD = {f"{name}.gz": [gzip.compress(content)] for name, content in FILES.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """No folder, no cache, no mirror and no internet, unless a test brings them; the small files are the right ones."""
    for name in ("DIFFNOTES_DATA", "DIFFNOTES_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(data, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()})
    monkeypatch.setattr(data, "MIRRORS", (closed_port(),))
    connect = socket.socket.connect

    def only_here(self: socket.socket, address) -> None:
        assert address[0] == "127.0.0.1", f"a test wanted to reach {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    return tmp_path / "cache" / "diffnotes" / "mnist"


@pytest.fixture
def mirrors(monkeypatch) -> Iterator:
    """mirrors(answers, ...): makes servers with these answers the mirrors, in this order."""
    started: list[Mirror] = []

    def start(*answers: dict[str, list]) -> list[Mirror]:
        started.extend(Mirror(each) for each in answers)
        monkeypatch.setattr(data, "MIRRORS", tuple(mirror.url for mirror in started))
        return started

    yield start
    for mirror in started:
        mirror.close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder that DIFFNOTES_DATA names, empty."""
    path = tmp_path / "mine"
    path.mkdir()
    monkeypatch.setenv("DIFFNOTES_DATA", str(path))
    return path


def fill(folder: Path, ending: str = ".gz", **instead: bytes) -> None:
    """Put all files into the folder, packed; `images` and `labels` replace the packed bytes of the training files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / (name + ending)).write_bytes(PACK[ending](content))
    for key, content in instead.items():
        (folder / ({"images": IMAGES, "labels": LABELS}[key] + ending)).write_bytes(content)


def is_small_mnist(images: data.Images, split: str = "train") -> bool:
    """Whether these are exactly the images and labels of the small files, in their order."""
    pixels, labels = SMALL[split]
    expected = torch.tensor(pixels / 127.5 - 1, dtype=torch.float64).reshape(-1, 1, 28, 28)
    close = images.x.shape == expected.shape and (images.x.double() - expected).abs().max().item() < 2e-7
    return close and images.x.dtype == torch.float32 and images.y.tolist() == labels.tolist()


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 0x10
    return bytes(changed)


# -- files in a folder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "MNIST/raw"])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize("ending", PACK)
def test_any_packing_spelling_and_folder_gives_the_same_images(folder, ending, spelling, below):
    (folder / below).mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / below / (name.replace("-idx", spelling) + ending)).write_bytes(PACK[ending](content))
    assert is_small_mnist(load_images("mnist", "train"), "train")
    assert is_small_mnist(load_images("mnist", "test"), "test")


def test_black_is_minus_1_and_white_is_1_exactly(folder):
    fill(folder)
    x = load_images("mnist").x
    assert x[0, 0, 0, :2].tolist() == [-1.0, 1.0] and x.min() == -1 and x.max() == 1


def test_source_says_mnist_split_and_folder(folder):
    fill(folder)
    images = load_images("mnist", "test")
    assert images.name == "mnist" and len(images) == 3
    assert images.source == "MNIST (LeCun, Cortes, Burges), test split, from the folder in DIFFNOTES_DATA"
    assert repr(images) == f"Images(3 images of mnist; {images.source})"


def test_folder_comes_before_the_cache_and_the_cache_before_the_mirrors(folder, cache, mirrors):
    (mirror,) = mirrors(GOOD)
    fill(cache)
    assert load_images("mnist").source.endswith("from the cache")
    fill(folder)
    assert load_images("mnist").source.endswith("from the folder in DIFFNOTES_DATA")
    assert mirror.asked == []


def test_files_missing_in_the_folder_are_taken_from_the_cache(folder, cache):
    fill(cache)
    (folder / f"{IMAGES}.gz").write_bytes(GOOD[f"{IMAGES}.gz"][0])
    assert is_small_mnist(load_images("mnist"))


def test_real_images_are_counted_digit_by_digit(monkeypatch):
    """MNIST where DIFFNOTES_DATA has it, with the published numbers of each digit; otherwise the digits of scikit-learn."""
    if REAL_MNIST:
        monkeypatch.undo()
        images, counts = load_images("mnist", "test"), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    else:
        images, counts = load_images("digits", "test"), [27, 31, 27, 30, 33, 30, 30, 30, 28, 31]
    assert images.y.bincount().tolist() == counts


# -- damaged files --------------------------------------------------------------------------------------------------

PACKED = gzip.compress(FILES[IMAGES])
DAMAGED = {
    "cut off in the middle": PACKED[: len(PACKED) // 2],
    "cut off by one byte": PACKED[:-1],
    "empty": b"",
    "first byte flipped": flipped(PACKED, 0),
    "byte of the compressed data flipped": flipped(PACKED, len(PACKED) // 2),
    "byte near the beginning of the data flipped": flipped(PACKED, 12),
    "byte of the checksum flipped": flipped(PACKED, -6),
    "byte of the length flipped": flipped(PACKED, -2),
    "other images": gzip.compress(flipped(FILES[IMAGES], 500)),
    "the test images": GOOD[f"{NAMES['test'][0]}.gz"][0],
    "a web page": b"<!DOCTYPE html><html><body>Please sign in</body></html>",
    "not packed at all": FILES[IMAGES],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_file_in_the_folder_is_named_left_alone_and_not_used(folder, content):
    fill(folder, images=content)
    path = folder / f"{IMAGES}.gz"
    with pytest.warns(UserWarning, match="damaged") as caught, pytest.raises(DataUnavailable) as error:
        load_images("mnist")
    whole = content in (DAMAGED["other images"], DAMAGED["the test images"])  # these could be any other data set
    what = "damaged or another data set," if whole else "damaged"
    assert str(caught[0].message).startswith(f"{path} is {what} and not used: ") and len(caught) == 1
    assert f"  - {path}: " in str(error.value)
    assert path.read_bytes() == content and len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("ending", ["", ".bz2", ".xz"])
@pytest.mark.parametrize("where", [0, 0.5, -1])
def test_flipped_byte_is_noticed_in_every_packing(folder, ending, where):
    packed = PACK[ending](FILES[IMAGES])
    place = int(len(packed) * where) if where >= 0 else -1
    fill(folder, ending, images=flipped(packed, place))
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(DataUnavailable):
        load_images("mnist")


@pytest.mark.parametrize("ending", ["", ".bz2", ".xz"])
def test_cut_off_file_is_noticed_in_every_packing(folder, ending):
    fill(folder, ending, images=PACK[ending](FILES[IMAGES])[:-9])
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(DataUnavailable):
        load_images("mnist")


def test_damaged_labels_are_noticed_as_well(folder):
    fill(folder, labels=gzip.compress(flipped(FILES[LABELS], 9)))
    with pytest.warns(UserWarning, match=LABELS), pytest.raises(DataUnavailable, match=f"no good copy of {LABELS}"):
        load_images("mnist")


def test_checksums_of_what_came_and_of_what_was_expected_are_told(folder):
    fill(folder, images=gzip.compress(b"abc"))
    abc, right = hashlib.sha256(b"abc").hexdigest(), hashlib.sha256(FILES[IMAGES]).hexdigest()
    with (
        pytest.warns(UserWarning, match=rf"unpacked SHA-256 is {abc[:12]}\.\.\., expected {right[:12]}\.\.\."),
        pytest.raises(DataUnavailable),
    ):
        load_images("mnist")


def test_another_data_set_under_the_names_of_mnist_is_told_from_damage_with_the_way_to_read_it(folder):
    fill(folder)
    pixels, labels = np.full((4, 28, 28), 7, np.uint8), np.array([1, 2, 0, 1], np.uint8)
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(struct.pack(">IIII", 2051, 4, 28, 28) + pixels.tobytes()))
    (folder / f"{LABELS}.gz").write_bytes(gzip.compress(struct.pack(">II", 2049, 4) + labels.tobytes()))
    with pytest.warns(UserWarning) as caught, pytest.raises(DataUnavailable) as error:
        load_images("mnist")
    said = str(caught[0].message)
    assert said.startswith(f"{folder / IMAGES}.gz is damaged or another data set, and not used: ")
    assert "it is a whole IDX file, 4 x 28 x 28, but its unpacked SHA-256 is " in said
    assert said.endswith(f'; load_images("idx:{folder}") reads other data sets')
    assert f'load_images("idx:{folder}") reads other data sets' in str(error.value)
    assert load_images(f"idx:{folder}").y.tolist() == [1, 2, 0, 1]  # the way that was named


def test_good_copy_beside_a_damaged_one_is_used(folder):
    fill(folder, images=DAMAGED["cut off in the middle"])
    (folder / f"{IMAGES}.xz").write_bytes(lzma.compress(FILES[IMAGES]))
    with pytest.warns(UserWarning, match="damaged"):
        assert is_small_mnist(load_images("mnist"))


def test_file_that_cannot_be_read_is_named_and_the_next_place_is_tried(folder, cache, monkeypatch):
    fill(folder)
    fill(cache)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.warns(UserWarning, match="Permission denied"):
        assert load_images("mnist").source.endswith("from the cache")


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_file_in_the_cache_is_set_aside_and_fetched_again(cache, mirrors, content):
    (mirror,) = mirrors(GOOD)
    fill(cache, images=content)
    with pytest.warns(UserWarning, match=f"{IMAGES}.gz is damaged and not used"):
        assert is_small_mnist(load_images("mnist"))
    assert mirror.asked == [f"{IMAGES}.gz"]
    assert (cache / f"{IMAGES}.gz.damaged").read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and from now on all is well
        assert load_images("mnist").source.endswith("from the cache")


def test_damaged_file_in_a_cache_that_cannot_be_changed_is_not_used_either(cache, mirrors, monkeypatch):
    mirrors(GOOD)
    fill(cache, images=DAMAGED["other images"])

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.warns(UserWarning, match="damaged"):
        assert is_small_mnist(load_images("mnist"))


# -- the download ---------------------------------------------------------------------------------------------------


def test_download_is_kept_and_needs_no_network_the_next_time(cache, mirrors, monkeypatch):
    (mirror,) = mirrors(GOOD)
    images = load_images("mnist")
    assert is_small_mnist(images) and images.source.endswith("downloaded")
    assert mirror.asked == [f"{IMAGES}.gz", f"{LABELS}.gz"]
    assert sorted(path.name for path in cache.iterdir()) == [f"{IMAGES}.gz", f"{LABELS}.gz"]
    monkeypatch.setattr(data, "MIRRORS", (closed_port(),))
    again = load_images("mnist")
    assert is_small_mnist(again) and again.source.endswith("from the cache")


BROKEN = {
    "404": 404,
    "503": 503,
    "cut off": ("cut", PACKED),
    "wrong content": DAMAGED["other images"],
    "byte flipped": DAMAGED["byte of the compressed data flipped"],
    "a web page": DAMAGED["a web page"],
    "empty": b"",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_second_mirror_is_used_when_the_first_fails(cache, mirrors, answer):
    first, second = mirrors({**GOOD, f"{IMAGES}.gz": [answer]}, GOOD)
    assert is_small_mnist(load_images("mnist"))
    assert first.asked == [f"{IMAGES}.gz", f"{LABELS}.gz"] and second.asked == [f"{IMAGES}.gz"]
    assert (cache / f"{IMAGES}.gz").read_bytes() == PACKED


def test_second_mirror_is_used_when_the_first_cannot_be_reached(mirrors, monkeypatch):
    (mirror,) = mirrors(GOOD)
    monkeypatch.setattr(data, "MIRRORS", (closed_port(), mirror.url))
    assert is_small_mnist(load_images("mnist"))


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_download_that_failed_twice_is_tried_a_third_time(mirrors, answer):
    (mirror,) = mirrors({**GOOD, f"{IMAGES}.gz": [answer, answer, PACKED]})
    assert is_small_mnist(load_images("mnist"))
    assert mirror.asked.count(f"{IMAGES}.gz") == 3


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_mirrors_that_stay_broken_are_given_up_and_nothing_is_kept(cache, mirrors, answer):
    started = mirrors({f"{IMAGES}.gz": [answer]}, {f"{IMAGES}.gz": [answer]})
    with pytest.raises(DataUnavailable) as error:
        load_images("mnist")
    for mirror in started:
        assert mirror.asked == [f"{IMAGES}.gz"] * 3
        assert all(f"{mirror.url}{IMAGES}.gz: " in line for line in str(error.value).splitlines() if mirror.url in line)
        assert "(attempt 3)" in [line for line in str(error.value).splitlines() if mirror.url in line][-1]
    assert not cache.exists() or not list(cache.iterdir())


def test_unreachable_mirrors_are_asked_only_once(monkeypatch):
    urls = (closed_port(), closed_port())
    monkeypatch.setattr(data, "MIRRORS", urls)
    with pytest.raises(DataUnavailable) as error:
        load_images("mnist")
    tried = [line.strip() for line in str(error.value).splitlines() if "127.0.0.1" in line]
    assert tried == [f"- {url}{IMAGES}.gz: cannot be reached (attempt 1)" for url in urls]


def test_unavailable_tells_where_it_looked_and_the_three_ways_out(folder, cache, monkeypatch):
    url = closed_port()
    monkeypatch.setattr(data, "MIRRORS", (url,))
    with pytest.raises(DataUnavailable) as error:
        load_images("mnist")
    assert str(error.value).splitlines() == [
        f"MNIST is not at hand: no good copy of {IMAGES} was found.",
        "Looked here:",
        f"  - {folder}: no {IMAGES}[.gz]",
        f"  - {cache}: there is no such folder",
        f"  - {url}{IMAGES}.gz: cannot be reached (attempt 1)",
        "Three ways out:",
        "  1. connect to the internet and call load_images('mnist') again: it is downloaded once (11 MB) and kept;",
        f"  2. put the four MNIST files ({IMAGES}.gz and so on) into a folder and set DIFFNOTES_DATA to it;",
        "  3. use load_images('digits'), which needs nothing: 1,797 small digits that come with scikit-learn.",
    ]


def test_offline_setting_asks_no_mirror(mirrors, monkeypatch):
    (mirror,) = mirrors(GOOD)
    monkeypatch.setenv("DIFFNOTES_OFFLINE", "1")
    with pytest.raises(DataUnavailable, match="the mirrors were not asked, because DIFFNOTES_OFFLINE is set"):
        load_images("mnist")
    assert mirror.asked == []


def test_cache_that_cannot_be_written_does_not_stop_the_download(cache, mirrors):
    mirrors(GOOD)
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file where the folder should be")
    assert is_small_mnist(load_images("mnist"))


def test_auto_is_mnist_where_it_can_be_had(mirrors):
    mirrors(GOOD)
    images = load_images("auto", "test")
    assert images.name == "mnist" and is_small_mnist(images, "test")


def test_auto_is_the_digits_otherwise_and_says_so():
    images, digits = load_images("auto", "test"), load_images("digits", "test")
    assert images.name == "digits" and torch.equal(images.x, digits.x) and torch.equal(images.y, digits.y)
    assert images.source == digits.source + "; MNIST was not to be had (load_images('mnist') says why)"


# -- the folder that is named ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named", ["~/digits/mnist", "$PICTURES/mnist", "${PICTURES}/mnist", "$HOME/digits/mnist", "$OURS"]
)
def test_home_and_variables_in_the_name_of_the_folder_are_expanded(tmp_path, monkeypatch, named):
    for variable, place in (
        ("HOME", tmp_path),
        ("USERPROFILE", tmp_path),
        ("PICTURES", tmp_path / "digits"),
        ("OURS", "~/digits/mnist"),
    ):
        monkeypatch.setenv(variable, str(place))
    monkeypatch.setenv("DIFFNOTES_DATA", named)
    fill(tmp_path / "digits" / "mnist")
    assert load_images("mnist").source.endswith("from the folder in DIFFNOTES_DATA")


def missing(folder: Path, named: str) -> str:
    return f"DIFFNOTES_DATA is {named!r}, and there is no folder {folder} (correct the variable, or remove it)"


def test_a_folder_that_is_named_and_not_there_is_an_error_whatever_else_is_at_hand(
    tmp_path, cache, mirrors, monkeypatch
):
    (mirror,) = mirrors(GOOD)
    fill(cache)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("DIFFNOTES_DATA", "~/mnits")
    with pytest.raises(DataUnavailable) as error:
        load_images("mnist")
    assert str(error.value) == missing(tmp_path / "mnits", "~/mnits")
    assert mirror.asked == []


def test_auto_warns_of_a_folder_that_is_not_there_and_says_that_it_takes_the_digits(tmp_path, cache, monkeypatch):
    fill(cache)
    monkeypatch.setenv("DIFFNOTES_DATA", str(tmp_path / "mnits"))
    with pytest.warns(UserWarning) as caught:
        images = load_images("auto")
    said = missing(tmp_path / "mnits", str(tmp_path / "mnits"))
    assert [str(each.message) for each in caught] == [f"{said}; the digits of scikit-learn are used instead of MNIST"]
    assert images.name == "digits" and len(images) == 1500


def test_a_file_is_no_folder_either_and_an_unknown_variable_shows(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for named in (str(tmp_path / "file"), "$NO_SUCH_VARIABLE/mnist"):
        monkeypatch.setenv("DIFFNOTES_DATA", named)
        with pytest.raises(DataUnavailable, match=re.escape(missing(Path(named), named))):
            load_images("mnist")


def test_an_empty_name_is_none(cache, monkeypatch):
    fill(cache)
    monkeypatch.setenv("DIFFNOTES_DATA", "")
    assert load_images("mnist").source.endswith("from the cache")


def test_the_warning_points_to_the_line_that_asked_for_images(tmp_path):
    script = tmp_path / "asks.py"
    script.write_text("from diffnotes import load_images\nimages = load_images('auto')\n")
    environment = os.environ | {"DIFFNOTES_DATA": str(tmp_path / "mnits"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=environment)
    assert re.match(
        rf"{re.escape(str(script))}:2: UserWarning: DIFFNOTES_DATA is .*\n  images = load_images", done.stderr
    )


# -- the digits of scikit-learn -------------------------------------------------------------------------------------


def both_splits() -> tuple[torch.Tensor, torch.Tensor]:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    return torch.cat([train.x, test.x]), torch.cat([train.y, test.y])


def test_1500_digits_are_for_training_and_297_for_testing():
    assert (len(load_images("digits", "train")), len(load_images("digits", "test"))) == (1500, 297)


def test_labels_are_those_of_scikit_learn_in_their_order():
    assert both_splits()[1].tolist() == sklearn.datasets.load_digits().target.tolist()


def test_every_digit_is_the_one_at_its_place_in_scikit_learn_enlarged_three_times():
    # the middle of every square of 3 x 3 pixels lies where the small image's pixel lies, and interpolation keeps that one
    x, _ = both_splits()
    middle = (x[:, 0, 3:26:3, 3:26:3].double() + 1) * 127.5
    original = torch.tensor(sklearn.datasets.load_digits().images / 16 * 255)
    assert (middle - original).abs().max() <= 0.51


def test_no_digit_is_in_both_splits():
    x, _ = both_splits()
    assert len({image.numpy().tobytes() for image in x}) == 1797


def test_digits_have_grey_values_of_mnist_on_a_black_border():
    x, _ = both_splits()
    levels = (x.double() + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4
    assert levels.round().unique().tolist() == list(range(256))
    border = x.clone()
    border[:, :, 2:26, 2:26] = -1
    assert (border == -1).all()


def test_source_of_the_digits_says_what_they_are():
    source = "UCI handwritten digits from scikit-learn, train split, 8x8 pixels enlarged to 28x28"
    assert repr(load_images("digits")) == f"Images(1,500 images of digits; {source})"


# -- wrong arguments ------------------------------------------------------------------------------------------------


KINDS = 'name must be "mnist", "digits", "auto", a folder of pictures, or "idx:" and the path of IDX files, got '


@pytest.mark.parametrize("name", ["cifar", "path/to/pictures", "C:\\pictures", "\0", "a" * 5000])
def test_unknown_name_is_refused_and_the_folder_that_is_not_there_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        load_images(name)
    assert str(error.value).startswith(KINDS)
    assert str(error.value).endswith(f": there is no folder {tmp_path / name}")


def test_home_is_expanded_in_the_name_of_a_folder_and_what_came_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(f"got '~/cats': there is no folder {tmp_path / 'cats'}")):
        load_images("~/cats")


def test_a_file_is_no_folder_of_pictures(tmp_path):
    (tmp_path / "cats.zip").touch()
    with pytest.raises(ValueError, match=re.escape(f": {tmp_path / 'cats.zip'} is a file, not a folder")):
        load_images(tmp_path / "cats.zip")


@pytest.mark.parametrize("name", [None, 5, b"mnist", ["mnist"], "", "idx:"])
def test_what_is_no_name_at_all_is_refused(name):
    with pytest.raises(ValueError) as error:
        load_images.__wrapped__(name)
    assert str(error.value) == f"{KINDS}{name!r}"


@pytest.mark.parametrize("size", [0, -1, 2.5, "32", True, (32, 32)])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"^size must be an integer from 1 to 4096, got "):
        load_images.__wrapped__("digits", size=size)


@pytest.mark.parametrize(
    "channels, words", [(2, "1 (grey), 3 (colour) or None, got 2"), ("RGB", "an integer >= 1, got 'RGB'")]
)
def test_other_numbers_of_channels_are_refused(channels, words):
    with pytest.raises(ValueError, match=f"^channels must be {re.escape(words)}$"):
        load_images.__wrapped__("digits", channels=channels)


# -- other sizes ----------------------------------------------------------------------------------------------------


def test_a_size_and_three_channels_can_be_had_of_every_data_set(folder):
    fill(folder)
    for name in ("mnist", "auto", "digits"):
        images = load_images(name, "test", size=np.int64(32), channels=3)
        assert images.item_shape == (3, 32, 32) and images.load == {"size": 32, "channels": 3}
        assert (images.x[:, 0] == images.x[:, 1]).all() and (images.x[:, 1] == images.x[:, 2]).all()
        assert torch.equal(images.y, load_images(name, "test").y) and images.classes == tuple("0123456789")


def test_a_digit_made_larger_is_the_same_digit():
    small, large = load_images("digits").x, load_images("digits", size=56).x
    assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 0.02


def test_the_size_that_they_have_changes_nothing_but_what_is_kept():
    images = load_images("digits", size=28)
    assert images.digest() == load_images("digits").digest()
    assert images.load == {"size": 28} and load_images("digits").load is None


@pytest.mark.parametrize("name", ["mnist", "digits", "auto"])
def test_unknown_split_is_refused(name):
    with pytest.raises(ValueError, match=r'^split must be "train" or "test", got \'valid\'$'):
        load_images(name, "valid")
