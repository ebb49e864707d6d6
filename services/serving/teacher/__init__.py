"""Asks a project's teacher: somebody else's model, behind an OpenAI-compatible endpoint."""
