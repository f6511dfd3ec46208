"""Workers on other machines, started by SLURM or by Ray."""
