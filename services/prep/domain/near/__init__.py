"""Finds prompts that nearly repeat one another, in time linear in their number."""
