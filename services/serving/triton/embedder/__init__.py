"""The Triton backend that turns tokens into embeddings."""
