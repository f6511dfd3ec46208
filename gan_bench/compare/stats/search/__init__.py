"""Statistics of random search: best of n draws, equal costs, pairs, and power."""
