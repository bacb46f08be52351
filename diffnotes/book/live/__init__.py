"""Pictures, widgets, and training beside the notebook."""
