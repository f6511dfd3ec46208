"""Before a run: what an experiment says and needs, and the names that a file can use."""
