"""The verbs of `noria`, one module a subject. Heavy imports stand inside the functions, so that the command starts at once."""
