"""What every service stands on: consumption, outbox, jobs, artifacts, health. It knows no service."""
