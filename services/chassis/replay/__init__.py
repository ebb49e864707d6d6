"""Rebuilds a service's state from the log and compares it with the live one."""
