"""The JSON of the protocol: a strict writer and a liberal reader.

`google.protobuf.json_format` alone is neither: it passes over unknown enum names and fields given under both
of their names, quotes values in its errors, and reads what is no object.
"""

from berth.encoding.reader import read
from berth.encoding.tree import MAX_DEPTH, MAX_VALUES
from berth.encoding.writer import write

__all__ = ["MAX_DEPTH", "MAX_VALUES", "read", "write"]
