"""The book's explorers: sliders that move a picture. Each is shown by calling it in a cell; `build_...` gives it unshown."""

from diffnotes.book.explorers.answers import answers, build_answers
from diffnotes.book.explorers.attention import attention, build_attention, build_positions, positions
from diffnotes.book.explorers.bits import bits, build_bits
from diffnotes.book.explorers.bound import bound, build_bound
from diffnotes.book.explorers.clocks import build_clocks, clocks
from diffnotes.book.explorers.codebook import build_codebook, codebook
from diffnotes.book.explorers.cost import build_cost, cost
from diffnotes.book.explorers.coupling import build_coupling, coupling
from diffnotes.book.explorers.few_calls import build_few_calls, few_calls
from diffnotes.book.explorers.films import (
    build_film,
    build_pictures,
    build_round_trip,
    film,
    pictures,
    round_trip,
)
from diffnotes.book.explorers.flows import build_flows, flows
from diffnotes.book.explorers.fool import build_fool, fool
from diffnotes.book.explorers.forward import build_chain, build_cloud, chain, cloud
from diffnotes.book.explorers.game import build_game, game
from diffnotes.book.explorers.gap import build_gap, gap
from diffnotes.book.explorers.gate import build_gate, gate
from diffnotes.book.explorers.gaussians import build_kl, build_product, build_total, kl, product, total
from diffnotes.book.explorers.guidance import build_guidance, guidance
from diffnotes.book.explorers.humps import build_humps, humps
from diffnotes.book.explorers.latent import ElboCurves, build_latent_plane, latent_plane
from diffnotes.book.explorers.meter import build_meter, meter
from diffnotes.book.explorers.pasting import build_pasting, pasting
from diffnotes.book.explorers.portrait import build_portrait, portrait
from diffnotes.book.explorers.posterior import build_posterior, posterior
from diffnotes.book.explorers.roads import build_roads, roads
from diffnotes.book.explorers.rotation import build_rotation, rotation
from diffnotes.book.explorers.sampling import build_ddim, build_draw, ddim, draw
from diffnotes.book.explorers.say_it import build_say_it, say_it
from diffnotes.book.explorers.scale import build_scale, scale
from diffnotes.book.explorers.schedule import build_schedule, schedule
from diffnotes.book.explorers.solvers import build_solvers, solvers
from diffnotes.book.explorers.telescope import build_telescope, telescope
from diffnotes.book.explorers.tilt import build_tilt, tilt
from diffnotes.book.explorers.tweedie import build_tweedie, tweedie
from diffnotes.book.explorers.two_noises import build_two_noises, two_noises
from diffnotes.book.explorers.unet import build_unet, unet
from diffnotes.book.explorers.variances import build_variances, variances
from diffnotes.book.explorers.walkers import build_walkers, walkers
from diffnotes.book.explorers.water import build_water, water
from diffnotes.book.explorers.weights import build_weights, weights
from diffnotes.book.explorers.words import build_reveal, build_unmasking, reveal, unmasking

__all__ = [
    "ElboCurves",
    "answers",
    "attention",
    "bits",
    "bound",
    "build_answers",
    "build_attention",
    "build_bits",
    "build_bound",
    "build_chain",
    "build_clocks",
    "build_cloud",
    "build_codebook",
    "build_cost",
    "build_coupling",
    "build_ddim",
    "build_draw",
    "build_few_calls",
    "build_film",
    "build_flows",
    "build_fool",
    "build_game",
    "build_gap",
    "build_gate",
    "build_guidance",
    "build_humps",
    "build_kl",
    "build_latent_plane",
    "build_meter",
    "build_pasting",
    "build_pictures",
    "build_portrait",
    "build_positions",
    "build_posterior",
    "build_product",
    "build_reveal",
    "build_roads",
    "build_rotation",
    "build_round_trip",
    "build_say_it",
    "build_scale",
    "build_schedule",
    "build_solvers",
    "build_telescope",
    "build_tilt",
    "build_total",
    "build_tweedie",
    "build_two_noises",
    "build_unet",
    "build_unmasking",
    "build_variances",
    "build_walkers",
    "build_water",
    "build_weights",
    "chain",
    "clocks",
    "cloud",
    "codebook",
    "cost",
    "coupling",
    "ddim",
    "draw",
    "few_calls",
    "film",
    "flows",
    "fool",
    "game",
    "gap",
    "gate",
    "guidance",
    "humps",
    "kl",
    "latent_plane",
    "meter",
    "pasting",
    "pictures",
    "portrait",
    "positions",
    "posterior",
    "product",
    "reveal",
    "roads",
    "rotation",
    "round_trip",
    "say_it",
    "scale",
    "schedule",
    "solvers",
    "telescope",
    "tilt",
    "total",
    "tweedie",
    "two_noises",
    "unet",
    "unmasking",
    "variances",
    "walkers",
    "water",
    "weights",
]
