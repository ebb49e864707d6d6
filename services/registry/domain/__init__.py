"""The rules of versions and stages: gates, verdicts, history, lineage. No Kafka, no SQL, no files."""
