"""TCP ports of the loopback interface: which is free, and who has one that is not."""

import socket

from tidegate.errors import UsageError

LOOPBACK = "127.0.0.1"


class PortTaken(UsageError):
    """The wanted port is taken by another program."""

    def __init__(self, port: int, holder: str):
        super().__init__(
            f"port {port} on {LOOPBACK} is taken by {holder}; stop that, choose another port, or name none "
            "and get a free one"
        )
        self.port = port
        self.holder = holder


def free_port() -> int:
    """A port that nobody listens on at this moment; it may be gone in the next."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now. Connections of an earlier server do not count."""
    with socket.socket() as probe:
        # As Postgres does; without it a port is busy for a minute after its server stopped.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def holder_of(port: int) -> str:
    """Who listens on `port`, in words: `postgres (process 4711, user alice)`, or that it cannot be seen."""
    import psutil

    try:
        listening = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        ]
        pid = next((pid for pid in listening if pid), None)
        if pid is None:
            return "a program of another user" if listening else "another program"
        process = psutil.Process(pid)
        return f"{process.name()} (process {pid}, user {process.username()})"
    except psutil.Error:
        return "another program"


def check_port(port: int) -> None:
    """Check a port that the user chose.

    Raises:
        PortTaken: somebody listens there.
        UsageError: not a port that ordinary programs may have.
    """
    if not 1024 <= port <= 65535:
        raise UsageError(f"port {port} cannot be had; choose one from 1024 to 65535, or none to get a free one")
    if not is_free(port):
        raise PortTaken(port, holder_of(port))
