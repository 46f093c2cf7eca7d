//! The limit of open files. The binary raises it, and so does an application that passes its clients to the hub. Streams and other connections share it.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a running hub opens beside its connections: new connections to a store, readers of the log on disk,
/// fetches of key sets, look-ups of names. At most a quarter of the free files.
const RESERVE: usize = 64;

/// One of this many connections is never a stream: it is for publishers, probes and subscribers that are refused.
const SPARE: usize = 8;

/// How many connections and streams there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) connections_max: usize,
    pub(crate) streams_max: usize,
}

/// Raises the soft limit of this process to the hard limit. The soft limit is usually 1,024 because of `select`, which takes
/// no higher file number. The hub does not use it.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the soft limit of open files stays as it is");
    }
}

/// The connections and streams that fit into the limit of this process. `None`: there is no limit. `open_connections`: those
/// of the hub that are open, whose files are not in their own way.
pub(crate) fn bounds(files_per_connection: usize, open_connections: usize) -> Option<Bounds> {
    let limit = getrlimit(Resource::Nofile).current?;
    // Where the open files cannot be listed, the reserve covers them.
    let open = fs::read_dir("/dev/fd").map_or(0, Iterator::count);
    let open = open.saturating_sub(open_connections.saturating_mul(files_per_connection));
    Some(share(usize::try_from(limit).unwrap_or(usize::MAX), open, files_per_connection))
}

fn share(limit: usize, open: usize, files_per_connection: usize) -> Bounds {
    let free = limit.saturating_sub(open);
    let connections_max = (free - RESERVE.min(free / 4)) / files_per_connection;
    let streams_max = connections_max - connections_max.div_ceil(SPARE);
    Bounds { connections_max, streams_max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_room_for_other_connections_and_these_for_the_hub() {
        assert_eq!(share(1_024, 24, 1), Bounds { connections_max: 936, streams_max: 819 });
        assert_eq!(share(1_024, 124, 3), Bounds { connections_max: 278, streams_max: 243 });
        assert_eq!(share(64, 24, 1), Bounds { connections_max: 30, streams_max: 26 });
        assert_eq!(share(20, 24, 1), Bounds { connections_max: 0, streams_max: 0 });
        assert!(share(usize::MAX, 24, 1).streams_max > 1_000_000_000);
    }
}
