"""Labels that nobody gave: clusters of similar images."""

import pytest
import torch

from diffnotes import load_images
from diffnotes.training.clusters import clustered, shares
from diffnotes.training.images import Images


@pytest.fixture(scope="module")
def digits() -> Images:
    return load_images("digits", "train")


def test_clusters_do_not_look_at_the_labels(digits: Images):
    shuffled = Images(digits.x, digits.y.flip(0), digits.name, digits.source)
    found, again = clustered(digits, 12), clustered(shuffled, 12)
    assert torch.equal(found.y, again.y) and found.num_classes == 12
    assert torch.equal(found.x, digits.x) and found.classes[3] == "cluster 3"


def test_images_of_a_cluster_are_more_alike_than_images_of_all(digits: Images):
    found = clustered(digits, 10)
    x = digits.x.flatten(1)
    within = sum(float((x[found.y == k] - x[found.y == k].mean(0)).square().sum()) for k in range(10))
    assert within < 0.75 * float((x - x.mean(0)).square().sum())
    pure = sum(int(torch.bincount(digits.y[found.y == k]).max()) for k in range(10)) / len(digits)
    assert pure > 0.6  # a tenth by chance: the clusters are kinds of digits, though nobody said so


def test_the_shares_are_those_of_the_images(digits: Images):
    few = Images(digits.x[:8], torch.tensor([0, 0, 0, 2, 2, 1, 1, 1]), digits.name, digits.source)
    few = clustered(few, 3)
    assert shares(few).tolist() == [(few.y == k).double().mean().item() for k in range(3)]
    assert float(shares(clustered(digits, 20)).sum()) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [0, 9, 2.5])
def test_a_wrong_number_of_clusters_is_refused(digits: Images, wrong):
    few = Images(digits.x[:8], digits.y[:8], digits.name, digits.source)
    with pytest.raises(Exception, match="number"):
        clustered(few, wrong)
