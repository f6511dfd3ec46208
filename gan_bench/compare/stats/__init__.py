"""The statistics: pure functions of scores."""
