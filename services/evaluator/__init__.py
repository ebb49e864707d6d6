"""Consumes trained models, promotions, requested evaluations, projects; emits evaluator.model.scored and .model.failed."""
