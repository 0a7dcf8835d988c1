"""The hosts' kubelets as the network sees them: a port per host that takes connections, or swallows them.

A closed port would refuse: a kernel that lives does that. A host without power says nothing. Linux drops whatever comes
to a listener whose queue is full, so a silent port has room for one connection, and holds one that nobody takes.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator

ADDRESS = "127.0.0.1"
BACKLOG = 128
WAITING = slice(24, 28)
"""Where ``tcp_info`` of a listener says how many connections wait to be taken."""
ATTEMPTS = 1000


class KubeletPort:
    """One descriptor, whatever the state. Silent at first."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        try:
            self._listener.setblocking(False)
            self._listener.bind((ADDRESS, 0))
            self.number = int(self._listener.getsockname()[1])
            self._fall_silent()
        except BaseException:
            self._listener.close()
            raise
        self._answers = False

    def answer(self, yes: bool) -> None:
        """Take connections from now on, or let them time out. To be called in the event loop."""
        if yes == self._answers:
            return
        self._answers = yes
        if yes:
            self._listener.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(self._listener, self._take)
        else:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._fall_silent()

    def close(self) -> None:
        """To be called in the event loop, if it answers."""
        if self._answers:
            self._answers = False
            asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()

    def _take(self) -> None:
        """Take what waits, and hang up: nothing is spoken here."""
        # Whoever gave up meanwhile is no error of ours, and the next is told of anew.
        with contextlib.suppress(OSError):
            while True:
                self._listener.accept()[0].close()

    def _fall_silent(self) -> None:
        self._listener.listen(0)
        for _ in range(ATTEMPTS):
            if self._waiting():
                return
            # The queue holds it after its end.
            with socket.socket() as filler:
                filler.setblocking(False)
                filler.connect_ex((ADDRESS, self.number))
        raise OSError(f"port {self.number} cannot be made silent")

    def _waiting(self) -> int:
        said = self._listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, WAITING.stop)
        return int(struct.unpack("=I", said[WAITING])[0])


@contextlib.contextmanager
def kubelets(hosts: Iterable[str]) -> Iterator[dict[str, KubeletPort]]:
    """A port for each host, until the end of the context."""
    with contextlib.ExitStack() as closing:
        ports: dict[str, KubeletPort] = {}
        for host in hosts:
            ports[host] = KubeletPort()
            closing.callback(ports[host].close)
        yield ports
