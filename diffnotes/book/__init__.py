"""What only the notebooks use: checks, symbols, plots, explorers, the training dashboard."""
