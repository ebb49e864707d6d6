"""The local stack: Kafka, Triton and the services as processes of one machine."""

API_KEY = "NORIA_API_KEY"
"""The variable that holds the key of whoever types; no service gets it."""
