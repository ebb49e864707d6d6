"""Consumes promoted models and defined projects; emits changed deployments and completed inferences."""
