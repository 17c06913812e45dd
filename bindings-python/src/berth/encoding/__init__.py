"""JSON encoding of the protocol: a strict encoder and a lenient decoder.

`google.protobuf.json_format` alone is neither: it ignores unknown enum names and fields present under both of
their names, quotes values in its errors, and accepts payloads that are not objects.
"""

from berth.encoding.decoder import decode
from berth.encoding.encoder import encode
from berth.encoding.parser import MAX_DEPTH, MAX_VALUES

__all__ = ["MAX_DEPTH", "MAX_VALUES", "decode", "encode"]
