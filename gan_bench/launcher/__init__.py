"""Starts and watches processes; knows nothing of GANs."""
