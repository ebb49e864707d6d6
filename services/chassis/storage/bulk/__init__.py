"""Many rows in one statement: inserts, looks-up and counts that no two transactions wait for."""
