"""Runs one script: what a guest is to the script host. The length of the script and the script are its input.

`main` is the entry point. When it returns, or exits with code 0, the run ended well.
"""

import os
import threading

HOST = 0  # the pipe from the host


def end_with_the_host() -> None:
    """A host that is killed cannot stop its guests, but the pipe from it breaks."""
    os.read(HOST, 1)
    os._exit(1)


script = b""
size = int.from_bytes(os.read(HOST, 4), "big")
while len(script) < size:
    script += os.read(HOST, size - len(script))
threading.Thread(target=end_with_the_host, daemon=True).start()
guest: dict[str, object] = {"__name__": "guest"}
exec(compile(script, "script", "exec"), guest)
guest["main"]()  # type: ignore[operator]
