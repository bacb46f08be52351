"""Networks: the U-Net."""
