"""Networks: the U-Net, and the small VAE of chapter 2."""
