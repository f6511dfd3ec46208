"""While runs are trained and measured: starting them, watching them, clearing up."""
