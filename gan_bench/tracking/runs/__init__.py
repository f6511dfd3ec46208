"""The runs of a root in an MLflow store: which are its own, and what they show."""
