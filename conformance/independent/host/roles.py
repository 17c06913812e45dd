"""Stand-in guests: the program of each role of the suite."""

import asyncio
from collections.abc import Awaitable, Callable

from guest import PAGE_BYTES, Denied, GuestExit, GuestFailed, Instance, Request, Response, Trap
from volumes import AccessDenied

Handler = Callable[[Instance, Request], Awaitable[Response]]
Run = Callable[[Instance], Awaitable[None]]

GROW_MIB = 8  # step of an endless allocation
PING_S = 0.2


async def _hello(_guest: Instance, _request: Request) -> Response:
    return Response(b"hello")


async def _hello_two(guest: Instance, _request: Request) -> Response:
    return Response((guest.first_variable() or "hello").encode())


async def _http_echo(guest: Instance, request: Request) -> Response:
    marker = next((value for name, value in request.headers if name.lower() == "x-berth"), "-")
    body = bytearray(f"{request.method}\n{request.path}\n{marker}\n".encode("latin-1"))
    room = 0
    async for part in request.body:
        room -= len(part)
        while room < 0:
            block = guest.memory.grow(1)
            if block is None:
                raise Trap("out of memory")
            room += len(block)
        body += part
    return Response(bytes(body))


async def _http_respond(_guest: Instance, request: Request) -> Response:
    status = request.path.removeprefix("/")
    headers = [("content-type", "application/x-berth"), ("x-berth", status), ("x-berth", "second value")]
    return Response(bytes(range(256)) * 512, int(status), headers)


async def _http_trap(_guest: Instance, request: Request) -> Response:
    if request.path == "/ok":
        return Response(b"ok")
    raise Trap("unreachable")


async def _http_spin(guest: Instance, request: Request) -> Response:
    if request.path != "/ok":
        await guest.beacon("spin")
        await guest.compute_forever()
    return Response(b"ok")


async def _http_alloc(guest: Instance, request: Request) -> Response:
    if request.path == "/endless":
        await _allocate_forever(guest)
    count = request.path.removeprefix("/")
    granted = count.isascii() and count.isdigit() and len(count) < 7 and _allocate(guest, int(count))
    return Response(b"ok" if granted else b"refused")


def _allocate(guest: Instance, mib: int) -> bool:
    """Grows the memory and writes to each page."""
    block = guest.memory.grow(mib)
    if block is None:
        return False
    for offset in range(0, len(block), PAGE_BYTES):
        block[offset] = 1
    return True


async def _allocate_forever(guest: Instance) -> None:
    granted = True
    while granted:
        granted = _allocate(guest, GROW_MIB)
        await asyncio.sleep(0)
    raise Trap("out of memory")


async def _http_env(guest: Instance, _request: Request) -> Response:
    lines = [f"{key}={value}\n" for key, value in guest.grants.environment.items()]
    return Response("".join(lines).encode())


async def _http_fetch(guest: Instance, _request: Request) -> Response:
    try:
        return Response(str(await guest.fetch(f"http://{guest.first_variable()}")).encode())
    except Denied:
        return Response(b"denied")


async def _http_files(guest: Instance, request: Request) -> Response:
    mounts = guest.grants.mounts
    if request.path == "/list":
        return Response(str(len(mounts)).encode())
    _, action, name = [*request.path.split("/", 2), "", ""][:3]
    try:
        if action == "read":
            return Response(mounts[0].read(name))
        if action == "write":
            mounts[0].write(name, b"berth")
            return Response(b"ok")
    except (AccessDenied, IndexError):
        pass
    return Response(b"denied")


async def _http_config(guest: Instance, request: Request) -> Response:
    return Response(guest.grants.config.get(request.path.removeprefix("/"), "none").encode())


async def _http_keyvalue(guest: Instance, request: Request) -> Response:
    bucket = guest.grants.buckets.setdefault("default", {})
    _, action, key = [*request.path.split("/", 2), "", ""][:3]
    if action == "get":
        return Response(bucket.get(key, b"none"))
    if action == "set" and (key in bucket or len(bucket) < 1000):  # keys of one workload
        bucket[key] = b"berth"
        return Response(b"ok")
    if action == "delete":
        bucket.pop(key, None)
        return Response(b"ok")
    return Response(b"error")


async def _http_logging(guest: Instance, request: Request) -> Response:
    guest.log("berth", request.path)
    return Response(b"ok")


async def _http_socket(guest: Instance, _request: Request) -> Response:
    address, _, port = guest.first_variable().split("/")[0].rpartition(":")
    try:
        await guest.connect(address, int(port))
    except (Denied, ValueError):
        return Response(b"denied")
    return Response(b"open")


async def _service_run(guest: Instance) -> None:
    await guest.beacon("up")
    await asyncio.Event().wait()


async def _service_ping(guest: Instance) -> None:
    while True:
        await guest.beacon("ping")
        await asyncio.sleep(PING_S)


async def _service_ok(guest: Instance) -> None:
    await guest.beacon("run")


async def _service_err(guest: Instance) -> None:
    await guest.beacon("run")
    raise GuestFailed("returned an error")


async def _service_trap(guest: Instance) -> None:
    await guest.beacon("run")
    raise Trap("unreachable")


async def _service_exit0(guest: Instance) -> None:
    await guest.beacon("run")
    raise GuestExit(0)


async def _service_exit1(guest: Instance) -> None:
    await guest.beacon("run")
    raise GuestExit(1)


async def _service_fresh(guest: Instance) -> None:
    await guest.beacon(guest.memory.cells.get("state", "fresh"))
    guest.memory.cells["state"] = "stale"
    raise Trap("unreachable")


async def _service_spin(guest: Instance) -> None:
    await guest.beacon("spin")
    await guest.compute_forever()


def _ends_after(seconds: float, *, success: bool) -> Run:
    async def run(guest: Instance) -> None:
        await guest.beacon("run")
        await asyncio.sleep(seconds)
        if not success:
            raise GuestFailed("returned an error")

    return run


HANDLERS: dict[str, Handler] = {
    "hello": _hello,
    "hello-two": _hello_two,
    "http-echo": _http_echo,
    "http-respond": _http_respond,
    "http-trap": _http_trap,
    "http-spin": _http_spin,
    "http-alloc": _http_alloc,
    "http-env": _http_env,
    "http-fetch": _http_fetch,
    "http-files": _http_files,
    "http-config": _http_config,
    "http-keyvalue": _http_keyvalue,
    "http-logging": _http_logging,
    "http-socket": _http_socket,
}

RUNS: dict[str, Run] = {
    "service-run": _service_run,
    "service-ping": _service_ping,
    "service-ok": _service_ok,
    "service-err": _service_err,
    "service-trap": _service_trap,
    "service-exit0": _service_exit0,
    "service-exit1": _service_exit1,
    "service-fresh": _service_fresh,
    "service-spin": _service_spin,
    "service-err-after-300ms": _ends_after(0.3, success=False),
    "service-err-after-61s": _ends_after(61, success=False),
    "service-ok-after-300ms": _ends_after(0.3, success=True),
}
