"""Pure mathematics: arrays in, arrays out, time first. No network, environment or config."""
