"""One module a producer, one class an event version."""
