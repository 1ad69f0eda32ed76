"""One run on the host: compiled chunks, and files, progress and signals between them."""
