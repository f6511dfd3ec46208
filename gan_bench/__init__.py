"""Compare GAN variants over fixed seeds, honestly, tracked in MLflow."""
