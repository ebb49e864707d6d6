"""What services say to each other: event classes, their Kafka binding and the catalogue of topics. Knows no service."""
