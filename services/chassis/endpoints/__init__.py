"""What whoever asks an OpenAI-compatible endpoint of somebody else needs: where it may be, its key, what it says of a failure."""
