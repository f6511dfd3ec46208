"""How processes on any machines share a root: claims of runs, leases, the queue."""
