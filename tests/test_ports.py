"""The ports of tests: nobody else gets them, and their servers may come back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ports import Port


def test_a_server_listens_on_its_port_as_often_as_it_likes():
    with Port() as port:
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((port.host, port.number))
            with (
                socket.create_server((port.host, port.number)) as server,
                socket.create_connection(server.getsockname()) as client,
            ):
                accepted, _ = server.accept()
                accepted.close()
                assert client.recv(1) == b""


EVERYTHING = """
    import errno, socket, subprocess
    from pathlib import Path
    from ports import Port

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40009")
    with Port() as port:
        for reuse in (0, 1):
            taken = [socket.socket() for _ in range(9)]
            for each in taken:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
                each.bind(("127.0.0.1", 0))
            # All the others are taken now.
            assert port.number not in [each.getsockname()[1] for each in taken]
            try:
                socket.create_server(("127.0.0.1", 0))
                raise SystemExit("a tenth port")
            except OSError as error:
                print(errno.errorcode[error.errno])
            for each in taken:
                each.close()
        with socket.create_server(("127.0.0.1", 30000)) as server:
            clients = [socket.create_connection(server.getsockname()) for _ in range(9)]
            assert port.number not in [each.getsockname()[1] for each in clients]
            try:
                socket.create_connection(server.getsockname())
                raise SystemExit("a tenth client")
            except OSError as error:
                print(errno.errorcode[error.errno])
"""


def test_neither_a_server_nor_a_client_gets_a_held_port():
    """In a network of its own, with ten ports."""
    command = ["unshare", "--net", sys.executable, "-c", textwrap.dedent(EVERYTHING)]
    if shutil.which("unshare") is None or subprocess.run([*command[:2], "true"], capture_output=True).returncode != 0:
        pytest.skip("network namespaces need root")
    ran = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert ran.stdout.split() == ["EADDRINUSE", "EADDRINUSE", "EADDRNOTAVAIL"], ran.stderr
