"""Samples, features and scores, each score with its protocol."""
