"""Consumes frozen datasets and project definitions; emits the progress of runs, trained models and failures with their cause."""
