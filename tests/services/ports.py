"""Free ports for servers that are stopped and started again on the same one."""

from __future__ import annotations

import random
import socket

# Below the range from which the kernel gives ports to outgoing connections: while a server is
# down, nothing else takes its port.
FIRST, LAST = 20000, 30000

_taken: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, never the same one twice."""
    for _ in range(1000):
        port = random.randint(FIRST, LAST)
        if port not in _taken and _is_free(port):
            _taken.add(port)
            return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST}")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
