"""One step: the networks, their optimizers, and what updates them."""
