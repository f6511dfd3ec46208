"""Augmentation: what is done to images before D sees them. `base.py` has what a part returns."""
