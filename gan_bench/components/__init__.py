"""Components that a YAML file can name: data, models, losses, penalties, optimizers."""
