"""The HTTP application of a service: its errors, keys, limits and health."""
