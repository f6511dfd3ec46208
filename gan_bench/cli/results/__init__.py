"""After the runs: the report, MLflow, and what a trained generator gives."""
