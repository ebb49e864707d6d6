"""Feedback: consumes serving.inference.completed.v1; emits feedback.signal.recorded.v1, feedback.signal.refused.v1."""
