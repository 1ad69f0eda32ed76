"""Entropy-regularised control: soft values, soft learning, control as inference."""
