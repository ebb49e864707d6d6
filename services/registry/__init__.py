"""Consumes trained models, scores, deployments; emits registry.project.defined, .model.* and .evaluation.requested."""
