"""Components that a YAML file can name: data, models, losses, penalties, augmentations,
optimizers."""
