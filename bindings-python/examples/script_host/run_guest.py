"""Runs a guest of the script host: reads the length of a script and the script from stdin, and runs the script.

`main` is the entry point of the script. The guest succeeds if `main` returns or exits with code 0.
"""

import os
import threading

STDIN = 0  # pipe from the host


def exit_with_host() -> None:
    """Ends this process when the pipe breaks, because a host that was killed cannot stop its guests."""
    os.read(STDIN, 1)
    os._exit(1)


script = b""
size = int.from_bytes(os.read(STDIN, 4), "big")
while len(script) < size:
    script += os.read(STDIN, size - len(script))
threading.Thread(target=exit_with_host, daemon=True).start()
namespace: dict[str, object] = {"__name__": "guest"}
exec(compile(script, "script", "exec"), namespace)
namespace["main"]()  # type: ignore[operator]
