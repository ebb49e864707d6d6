"""Kafka messages in and out: batches in one transaction, inbox, outbox, relay, parked and dead messages."""
