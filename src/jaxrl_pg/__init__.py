"""Functional reinforcement learning in JAX."""
