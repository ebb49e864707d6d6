"""Consumes accepted records and project definitions; emits frozen datasets."""
