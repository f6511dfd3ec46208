"""The names of scores, and which of them a run lacks."""
