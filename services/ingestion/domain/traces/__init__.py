"""Spans and log events of calls of language models as conversations. Knows no HTTP and no protobuf."""
