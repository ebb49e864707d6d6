"""The example from-zero: a project without a record, whose wheel simulated users turn by what they say of answers."""
