"""The rules of measuring: scores an example, intervals, what is measured against what. No tensor, no file, no SQL."""
