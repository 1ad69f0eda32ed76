"""Bounds on how much an update of a policy improves it, and where they fail."""
