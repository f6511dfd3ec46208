"""The modules of the larger models, which import torch; `models/` has the factories."""
