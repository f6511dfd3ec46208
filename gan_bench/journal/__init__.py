"""What happened, on the disk: the truth."""
