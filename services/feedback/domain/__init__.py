"""What feedback is, and how a correction or a comparison becomes a record: pure rules."""
