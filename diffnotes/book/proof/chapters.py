"""The chapters of the book, by number: how a line under a check finds an equation of another chapter."""

CHAPTERS = {
    0: "00_start_here",
    1: "01_gaussian_toolkit",
    2: "02_latent_variables",
    3: "03_hierarchical_vae_to_vdm",
    4: "04_forward_process",
    5: "05_bayes_posterior",
    6: "06_elbo",
    7: "07_epsilon_loss",
    8: "08_unet",
    9: "09_training",
    10: "10_ddpm_sampling",
    11: "11_ddim",
    12: "12_guidance",
    90: "90_errata_clinic",
    91: "91_equation_index",
}


def address(tag: str, here: int | None = None) -> str:
    """Where a link to equation `tag` leads: in the notebook of chapter `here`, or of any chapter if that is None."""
    chapter = int(tag.split(".")[0])
    return f"#eq-{tag}" if here in (None, chapter) else f"{CHAPTERS[chapter]}.ipynb#eq-{tag}"
