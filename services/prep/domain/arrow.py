"""pyarrow's classes by name, and its functions: it ships no types."""

from typing import Any

import pyarrow.compute

compute: Any = pyarrow.compute

Column = Any
"""pyarrow.Array"""
Batch = Any
"""pyarrow.RecordBatch"""
Table = Any
"""pyarrow.Table"""
Schema = Any
"""pyarrow.Schema"""
