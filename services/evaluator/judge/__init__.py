"""Asks a project's judge, somebody else's model, whose answer is better, and says how far it can be believed."""
