"""Training and evaluation as pure, compiled programs."""
