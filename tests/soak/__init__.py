"""A year in an hour: real services under a load of months with shortened retention, and their sizes against their bounds."""
