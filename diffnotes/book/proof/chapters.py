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
    90: "90_gaussian_toolkit",
    91: "91_errata_clinic",
    92: "92_equation_index",
}
LETTERS = {90: "A"}  # appendices whose equations, sections and exercises are counted by a letter


def label(number: int) -> str:
    """What stands before the point in a chapter's numbers: "4" for chapter 4, "A" for appendix A, file 90."""
    return LETTERS.get(number, str(number))


def number_of(tag: str) -> int:
    """The number of the file in which equation, section or exercise `tag` stands: 4 for "4.6", 90 for "A.3"."""
    head = tag.split(".")[0]
    return {letter: number for number, letter in LETTERS.items()}.get(head) or int(head)


def address(tag: str, here: int | None = None) -> str:
    """Where a link to equation `tag` leads: in the notebook of chapter `here`, or of any chapter if that is None."""
    chapter = number_of(tag)
    return f"#eq-{tag}" if here in (None, chapter) else f"{CHAPTERS[chapter]}.ipynb#eq-{tag}"
