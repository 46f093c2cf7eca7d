"""The hub at a terminal, where SIGHUP says that the terminal is gone."""

import os
import pty
import select
import signal

import pytest

import hubs
from clients import PATIENCE


def read_until(terminal: int, text: bytes) -> None:
    found = b""
    while text not in found:
        assert select.select([terminal], [], [], PATIENCE)[0], found
        found += os.read(terminal, 4096)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system cannot wait for a process that way")
def test_a_signal_reloads_settings_at_a_terminal_until_that_is_closed():
    binary, *_ = hubs.petasos()
    process, terminal = pty.fork()
    if process == 0:
        os.execv(binary, [binary, "--dev", "--listen", "127.0.0.1:0", "--admin-listen", "off"])
    ended = os.pidfd_open(process)
    try:
        read_until(terminal, b"Serving on")
        os.kill(process, signal.SIGHUP)
        read_until(terminal, b"settings reloaded")
        os.close(terminal)
        assert select.select([ended], [], [], PATIENCE)[0]
    except BaseException:
        os.kill(process, signal.SIGKILL)
        raise
    finally:
        status = os.waitpid(process, 0)[1]
        os.close(ended)
    assert os.waitstatus_to_exitcode(status) == 0
