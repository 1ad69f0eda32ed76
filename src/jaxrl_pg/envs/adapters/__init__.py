"""Suites of environments behind the one door, a file each."""
