"""The rows of a data file, whatever it is: JSON lines, JSON, CSV, Parquet, Arrow, a saved dataset, packed or not. Streaming."""
