"""The key `search`: from its space to the draws, and from variants to the first runs of each."""
