"""Learning from samples on finite MDPs: temporal differences, bandits, estimators."""
