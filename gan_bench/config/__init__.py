"""From a YAML file to run specifications, each with its id."""
