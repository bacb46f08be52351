"""The chapters of the book, by number: how a line under a check finds an equation of another chapter."""

CHAPTERS = {
    0: "00_start_here",
    1: "01_forward_process",
    2: "02_bayes_posterior",
    3: "03_elbo",
    4: "04_epsilon_loss",
    5: "05_unet",
    6: "06_training",
    7: "07_ddpm_sampling",
    8: "08_ddim",
    9: "09_guidance",
    10: "10_latent_variables",
    11: "11_hierarchical_vae_to_vdm",
    12: "12_likelihood",
    13: "13_scores_and_sdes",
    14: "14_fewer_steps",
    15: "15_flows",
    16: "16_transformers",
    17: "17_codes",
    18: "18_latents_and_cascades",
    19: "19_words_and_pictures",
    20: "20_diffusion_for_words",
    21: "21_rivals_and_portrait",
    22: "22_applications",
    90: "90_gaussian_toolkit",
    91: "91_errata_clinic",
    92: "92_equation_index",
}
LETTERS = {90: "A"}  # appendices, whose equations are numbered A.1, A.2, ...
TAG = rf"(?:\d+|{'|'.join(LETTERS.values())})\.\d+"  # the shape of an equation's number, for regular expressions


def label(number: int) -> str:
    """How the book calls a chapter: by its number, or by an appendix's letter."""
    return LETTERS.get(number, str(number))


def number_of(tag: str) -> int:
    """The number of the chapter that a label or the tag of an equation belongs to: 4 for "4" and "4.6", 90 for "A.3"."""
    chapter = tag.split(".")[0]
    return next((number for number, letter in LETTERS.items() if letter == chapter), None) or int(chapter)


def address(tag: str, here: int | None = None) -> str:
    """Where a link to equation `tag` leads: in the notebook of chapter `here`, or of any chapter if that is None."""
    chapter = number_of(tag)
    return f"#eq-{tag}" if here in (None, chapter) else f"{CHAPTERS[chapter]}.ipynb#eq-{tag}"
