"""Consumes trainer.model.trained, registry.model.promoted, .project.defined; emits evaluator.model.scored, .model.failed."""
