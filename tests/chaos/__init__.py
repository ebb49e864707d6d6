"""Breaks a running stack in seeded ways while traffic flows, and compares what it did with what it acknowledged."""
