"""What Kafka's clients need of us: topics, security, and bounds on what is read."""
