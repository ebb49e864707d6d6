"""The local stack: Kafka, Triton and the services as processes of one machine; it knows no event."""
