"""What the machine allows: how many streams the limit of open files has room for."""

from __future__ import annotations

from .finding import Finding

_RESERVE = 64
"""Files that a hub opens beside its streams (crates/petasos/src/open_files.rs)."""


def check_open_files(processes: int, streams: int) -> Finding | None:
    """Check that streams fit into the limit of open files. None: the system has no such limit.

    Args:
        processes: of the server; each has the limit for itself.
        streams: how many are expected.
    """
    try:
        import resource
    except ImportError:
        return None
    # The first stream of a process raises its limit to the hard one.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("ok", "open files", "no limit here")
    # Half of the files is for streams, and one of eight of these connections is never a stream.
    room = max(hard - _RESERVE, 0) // 2 * 7 // 8 * processes
    found = f"{hard} for a process started from here: room for about {room} streams"
    if room >= streams:
        return Finding("ok", "open files", found)
    change = "raise the hard limit: LimitNOFILE=65536 in the systemd unit, --ulimit nofile=65536 of a container"
    return Finding("warning", "open files", f"{found}; {streams} are expected (--streams)", change)
