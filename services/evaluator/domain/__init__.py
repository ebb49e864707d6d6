"""The rules of measuring: figures an example, intervals, what is measured against what. No tensor, no file, no SQL."""
