"""An MLflow store: its address, its database and its artifacts, opened and checked."""
