"""Secrets and personal data in texts: found by their form and their check digits, and replaced. Knows no project."""
