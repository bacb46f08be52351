"""Labels that nobody gave: the numbers of clusters of similar images.

A network that is told what kind of image to draw has the easier task, and the kinds need no names. The mixture
q(x) = sum over k of q(k) q(x | k) holds for any partition of the images, so drawing a cluster k with its share q(k) and then an
image given k draws from q(x) without a label having been used (as Bao et al. 2022, "Why are conditional generative models better
than unconditional ones?", and Hu et al. 2023, "Self-guided diffusion models", do it on features of larger networks).
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from diffnotes.process.arguments import IntLike, integer
from diffnotes.training.data import Images


def clustered(images: Images, number: IntLike = 20, seed: IntLike = 0) -> Images:
    """The same images, each with the number of its cluster, 0..number - 1, for a label.

    The clusters are those of k-means on the pixels, averaged 2 x 2 where height and width are even (scikit-learn's
    MiniBatchKMeans, Sculley 2010). Their labels say nothing of what is on an image."""
    from sklearn.cluster import MiniBatchKMeans

    k, seed = integer("number", number, 1, len(images), "the number of images, "), integer("seed", seed, 0)
    x = F.avg_pool2d(images.x, 2) if images.x.shape[-1] % 2 == images.x.shape[-2] % 2 == 0 else images.x
    means = MiniBatchKMeans(k, random_state=seed, batch_size=4096, n_init=3)
    labels = means.fit_predict(x.flatten(1).cpu().numpy())
    classes = tuple(f"cluster {number}" for number in range(k))
    return dataclasses.replace(images, y=torch.as_tensor(labels).long().to(images.y.device), classes=classes)


def shares(images: Images) -> Float[Tensor, "classes"]:
    """q(k): the share of the images that has each label, float64, (classes,)."""
    return torch.bincount(images.y.cpu(), minlength=images.num_classes).double() / len(images)
