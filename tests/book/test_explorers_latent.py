import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes.book.explorers import latent
from diffnotes.book.live import widgets as live
from diffnotes.models.vae import VAE, binarize
from diffnotes.training.data import Images
from diffnotes.training.grid import to_uint8


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What is displayed, newest last."""
    displayed: list[dict] = []
    monkeypatch.setattr(live, "display", lambda what, **options: displayed.append(what | {"options": options}))
    return displayed


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(3)
    vae = VAE(latent=2, width=16)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(3)  # or all codes would be near the origin
    return vae


@pytest.fixture(scope="module")
def images() -> Images:
    x = torch.randn(60, 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return Images(x, torch.arange(60) % 10, "noise", "sixty squares of noise")


@pytest.fixture
def plane(vae, images) -> live.Explorer:
    return latent.build_latent_plane(vae, images, reach=8.0)


def sent(image) -> np.ndarray:
    """The pixels that an image widget shows."""
    return np.asarray(Image.open(io.BytesIO(image.value)).convert("L"))


def codes(vae: VAE, images: Images) -> np.ndarray:
    with torch.no_grad():
        return vae.encode(binarize(images.x))[0].numpy()


# -- the plane ----------------------------------------------------------------------------------------------------------


def test_it_begins_at_the_origin(plane):
    assert plane.values() == {"z_1": 0.0, "z_2": 0.0}
    assert (
        "z = (0.00, 0.00), 0.00 from the origin; 100.0% of the draws of N(0, I) lie further out" in plane.reading.value
    )


@pytest.mark.parametrize("name", ["z_1", "z_2"])
def test_both_sliders_move_the_picture(plane, name):
    before = sent(plane.plot.image)
    plane.controls[name].value = 3.0
    assert (sent(plane.plot.image) != before).any()


def test_the_picture_holds_the_decoders_mean_image(vae, plane):
    plane.controls["z_1"].value, plane.controls["z_2"].value = 2.0, -1.0
    digit = plane.plot.artists[0]
    with torch.no_grad():
        expected = to_uint8(vae.decode(torch.tensor([[2.0, -1.0]])))[0, 0]
    assert (np.asarray(digit.get_array()) == expected).all()


def test_the_marker_stands_at_z(plane):
    plane.controls["z_1"].value, plane.controls["z_2"].value = 2.0, -1.0
    _, vertical, horizontal, marker = plane.plot.artists
    assert marker.get_xdata() == [2.0] and marker.get_ydata() == [-1.0]
    assert vertical.get_xdata() == [2.0, 2.0] and horizontal.get_ydata() == [-1.0, -1.0]


def test_its_reading_gives_the_share_of_the_prior_further_out(plane):
    plane.controls["z_1"].value, plane.controls["z_2"].value = 1.5, 2.0  # 2.5 from the origin
    draws = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    share = re.search(r"2\.50 from the origin; ([\d.]+)% of the draws", plane.reading.value)
    assert share is not None
    assert float(share[1]) / 100 == pytest.approx((draws.norm(dim=1) > 2.5).float().mean().item(), abs=2e-3)


def test_its_reading_names_the_nearest_code(vae, images, plane):
    means = codes(vae, images)
    number = int(np.abs(means).max(axis=1).argmin())  # one that the sliders reach
    plane.controls["z_1"].value, plane.controls["z_2"].value = means[number].tolist()
    z = np.array([plane.controls["z_1"].value, plane.controls["z_2"].value])
    distance = np.hypot(*(means - z).T)
    assert (
        f"The nearest code is {distance.min():.2f} away, that of a {images.y[distance.argmin()]};"
        in plane.reading.value
    )
    labels = images.y.numpy()[distance.argsort()[:20]]
    most = np.bincount(labels).argmax()
    assert f"of the 20 nearest, {(labels == most).sum()} are of the digit {most}." in plane.reading.value


def test_it_says_how_many_codes_it_does_not_show(vae, images):
    means = codes(vae, images)
    reach = float(np.median(np.abs(means).max(axis=1)))
    outside = int((np.abs(means).max(axis=1) > reach).sum())
    assert 0 < outside < 60
    narrow = latent.build_latent_plane(vae, images, reach=reach)
    assert f"{outside} of the 60 codes lie outside this picture" in narrow.reading.value
    wide = latent.build_latent_plane(vae, images, reach=float(np.abs(means).max()) + 1)
    assert "outside this picture" not in wide.reading.value


def test_the_sliders_stay_in_the_picture(plane):
    for control in plane.controls.values():
        assert (control.min, control.max) == (-8.0, 8.0)
        assert control.description in ("z₁", "z₂")


def test_only_the_codes_asked_for_are_drawn(vae, images):
    few = latent.build_latent_plane(vae, images, reach=8.0, codes=20)
    assert "codes of 20 images" in few.plot.figure.axes[1].get_title(loc="left")


def test_reset_goes_back_to_the_origin(plane):
    first = sent(plane.plot.image)
    plane.controls["z_1"].value = 5.0
    plane.reset()
    assert (sent(plane.plot.image) == first).all()


def test_a_picture_stands_behind_it(vae, images, shown):
    latent.latent_plane(vae, images)
    assert 'alt="Left: the image that the decoder makes of z = (0, 0).' in shown[-1]["text/html"]
    assert "0.00 from the origin" in shown[-1]["text/html"]


def test_a_vae_without_a_plane_is_refused(images):
    with pytest.raises(ValueError, match=r"^vae must have a latent plane \(latent=2\), got latent=3$"):
        latent.build_latent_plane(VAE(latent=3, width=8), images)


def test_a_plane_without_extent_is_refused(vae, images):
    with pytest.raises(ValueError, match=r"^reach must be positive, got 0$"):
        latent.build_latent_plane(vae, images, reach=0)


@pytest.mark.parametrize("number", [0, 19])
def test_too_few_codes_are_refused(vae, images, number):
    with pytest.raises(ValueError, match=rf"^codes must be at least 20, got {number}$"):
        latent.build_latent_plane(vae, images, codes=number)


def test_too_few_images_are_refused(vae, images):
    few = Images(images.x[:5], images.y[:5], "noise", "five squares of noise")
    with pytest.raises(ValueError, match=r"^images must hold at least 20 images, got 5$"):
        latent.build_latent_plane(vae, few)


# -- the curves ---------------------------------------------------------------------------------------------------------


def history(updates: int) -> list[tuple[float, float]]:
    return [(-200.0 + k, 2.0 + 0.01 * k) for k in range(updates)]


def test_the_curves_are_means_over_ten_updates(shown):
    curves = latent.ElboCurves(updates=50)
    curves.close(history(35))
    x, y = curves._reconstruction.get_data()
    assert x.tolist() == pytest.approx([5.5, 15.5, 25.5]) and y.tolist() == pytest.approx([-195.5, -185.5, -175.5])
    assert curves._prior.get_ydata().tolist() == pytest.approx([2.045, 2.145, 2.245])
    assert curves._elbo.get_ydata().tolist() == pytest.approx([-197.545, -187.645, -177.745])


def test_a_short_history_is_drawn_too(shown):
    curves = latent.ElboCurves(updates=50)
    curves.close(history(3))
    assert curves._reconstruction.get_ydata().tolist() == pytest.approx([-199.0])


def test_the_curves_can_be_closed_before_the_first_update(shown):
    curves = latent.ElboCurves(updates=50)
    curves.close([])
    assert "both curves are empty" in shown[-1]["text/html"]


def test_they_are_redrawn_only_now_and_then(shown, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(latent.time, "monotonic", lambda: now[0])
    curves = latent.ElboCurves(updates=50)
    empty = curves.plot.image.value
    curves.draw(history(30))
    assert curves.plot.image.value == empty
    now[0] += 1
    curves.draw(history(30))
    assert curves.plot.image.value != empty


def test_at_the_end_a_picture_takes_the_widgets_place(shown):
    curves = latent.ElboCurves(updates=50)
    curves.close(history(30))
    first, last = shown
    assert first["options"]["display_id"] == last["options"]["display_id"] and last["options"]["update"]
    assert (
        "over 30 updates" in last["text/html"]
        and "ends at -176 nats per image" in last["text/html"]
        and "ends at 2.2 nats" in last["text/html"]
    )


@pytest.mark.parametrize("updates", [0, -1])
def test_curves_over_no_updates_are_refused(updates):
    with pytest.raises(ValueError, match=rf"^updates must be positive, got {updates}$"):
        latent.ElboCurves(updates)
