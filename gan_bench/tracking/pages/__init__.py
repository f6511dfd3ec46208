"""What people see first in MLflow: the page of an experiment, and its study run."""
