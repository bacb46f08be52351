"""The chapters of the book and their titles, by number: how a line under a check finds an equation of another chapter."""

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
TITLES = {
    0: "Start here",
    1: "The forward process",
    2: "The Bayes posterior",
    3: "The bound",
    4: "The epsilon-loss",
    5: "The U-Net",
    6: "Training",
    7: "Sampling: DDPM",
    8: "DDIM",
    9: "Guidance",
    10: "Latent variables",
    11: "From hierarchical VAEs to diffusion",
    12: "Likelihood and the learned variance",
    13: "Scores and differential equations",
    14: "Fewer steps",
    15: "Flows and flow matching",
    16: "Transformers",
    17: "Codes",
    18: "Latents and cascades",
    19: "Words and pictures",
    20: "Diffusion for words",
    21: "The rivals, and a family portrait",
    22: "Applications",
    90: "The Gaussian toolkit",
    91: "The errata clinic",
    92: "Index of equations",
}  # as the table of the book in chapter 0 has them
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
