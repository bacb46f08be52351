"""What a chapter asks of the machine it runs on: its budget, the reader's own model, the environment."""
