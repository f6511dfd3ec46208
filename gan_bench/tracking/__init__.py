"""The journal replayed into MLflow, and read back: the only folder that knows MLflow."""
