"""Many runs: experiment files, batches that share a compiled program, tables of results."""
