"""What is kept and for how long: rows by age, artifacts by reference."""
