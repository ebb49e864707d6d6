"""Consumes trainer.model.trained, evaluator.model.scored, .model.failed; emits registry.project.defined and registry.model.*."""
