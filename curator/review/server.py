"""The HTTP server: uvicorn, with an end to its patience and to the connections that it takes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS, OF_ADDRESS = 512, 64  # open at once: in all, and of one address
HEADERS = 10.0  # seconds until a request is there
STUCK = 60.0  # seconds that an answer is not read
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Protocol(H11Protocol):
    """A connection. One too many is refused; one on which nothing moves is closed."""

    of_address = OF_ADDRESS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it."""
        super().connection_made(transport)
        address = self.client and self.client[0]
        beside = sum((other.client and other.client[0]) == address for other in self.connections)  # type: ignore[union-attr]
        if len(self.connections) > CONNECTIONS or beside > self.of_address:
            transport.write(BUSY)
            transport.close()
            return
        self._moved = self.loop.time()
        self._watch()

    def _watch(self) -> None:
        if self.transport.is_closing():
            return
        waiting = self.cycle is None or self.cycle.response_complete
        if not waiting and not self.flow.write_paused:
            self._moved = self.loop.time()
        elif self.loop.time() - self._moved > (HEADERS if waiting else STUCK):
            return self.transport.abort()
        self.loop.call_later(1, self._watch)


class Proxied(Protocol):
    """A connection of a proxy's, which has one address for all who come through it."""

    of_address = CONNECTIONS


def listen(host: str, port: int) -> socket.socket:
    """A socket on the address.

    Raises:
        OSError: when it cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(CONNECTIONS)
    except BaseException:
        listening.close()
        raise
    return listening


def serve(
    app: Any,
    listening: socket.socket,
    load: Callable[[], None] = lambda: None,
    protocol: type[Protocol] = Protocol,
) -> None:
    """Serve the ASGI application until a signal; no address is logged, it may hold a token.

    Args:
        app: what is served, from now on.
        listening: where.
        load: called in a thread meanwhile; what it raises ends the serving and is raised.
        protocol: how requests are read.
    """
    config = uvicorn.Config(
        app, http=protocol, ws="none", log_level="error", access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    server, failed = uvicorn.Server(config), list[BaseException]()

    def work() -> None:
        try:
            load()
        except BaseException as e:
            failed.append(e)
            server.should_exit = True

    threading.Thread(target=work, daemon=True, name="load").start()
    server.run(sockets=[listening])
    if failed:
        raise failed[0]
