"""Databases, migrations, artifacts and the spool."""
