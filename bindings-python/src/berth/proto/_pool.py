"""The descriptor pool of this package.

With the pool of the process, the classes here would be those of every other package that generates stubs from
the same schema: a change of their `repr` would affect that package, and two revisions of the schema would be an
error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import empty_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
for _file in (timestamp_pb2.DESCRIPTOR, empty_pb2.DESCRIPTOR):
    POOL.AddSerializedFile(_file.serialized_pb)

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp as Timestamp
else:
    # The class of timestamp fields: not the one in `google.protobuf.timestamp_pb2`, but with the same members.
    Timestamp = message_factory.GetMessageClass(POOL.FindMessageTypeByName("google.protobuf.Timestamp"))
