"""The pure steps that turn records into a dataset. Each step does one thing; each drop has a reason."""
