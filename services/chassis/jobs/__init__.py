"""Long work: a queue in the database, leases with fencing tokens, workers and their child processes."""
