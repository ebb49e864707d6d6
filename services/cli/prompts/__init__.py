"""What `noria prompt` is made of: prompts as YAML, questions to models, cases and checks, picked examples, a prompt's search."""
