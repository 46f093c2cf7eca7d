//! The memory that this process may use: the smallest of the machine's memory, the limit of its control group and its
//! limit of address space.

use std::fs;

/// The default for the bytes that all subscribers may bring together: a quarter of the memory, since the log and the
/// streams themselves need the rest, and at most [`SUBSCRIBERS_BYTES_MAX`].
pub(crate) fn subscribers_bytes_max() -> usize {
    share(available(|path| fs::read_to_string(path).ok()))
}

/// 5 KB for each of 100,000 streams.
const SUBSCRIBERS_BYTES_MAX: usize = 512 * 1024 * 1024;

fn share(available: Option<u64>) -> usize {
    let quarter = available.map_or(usize::MAX, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX));
    quarter.min(SUBSCRIBERS_BYTES_MAX)
}

/// The smallest of the limits, in bytes. `None`: none is known, as on systems other than Linux.
fn available(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let machine = read("/proc/meminfo").as_deref().and_then(total);
    let address_space = read("/proc/self/limits").as_deref().and_then(address_space);
    let group = read("/proc/self/cgroup").as_deref().and_then(group).unwrap_or_default();
    let groups = [
        // Version 2, with the path outside and inside a container; then version 1.
        format!("/sys/fs/cgroup{group}/memory.max"),
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let groups = groups.iter().filter_map(|path| read(path)?.trim().parse().ok());
    machine.into_iter().chain(address_space).chain(groups).min()
}

/// "MemTotal:       16384 kB"
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// "Max address space         512000000            unlimited            bytes"; "unlimited" is no number.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// "0::/system.slice/petasos.service"
fn group(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end();
    Some(path.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max data size             unlimited            unlimited            bytes     \n\
                          Max address space         512000000            unlimited            bytes     \n";

    #[test]
    fn the_smallest_limit_counts() {
        let files = |limits: &'static str, service: &'static str, container: &'static str| {
            move |path: &str| match path {
                "/proc/meminfo" => Some("MemTotal:       16384000 kB\nMemFree: 1 kB\n".to_owned()),
                "/proc/self/limits" => Some(limits.to_owned()),
                "/proc/self/cgroup" => Some("0::/system.slice/petasos.service\n".to_owned()),
                "/sys/fs/cgroup/system.slice/petasos.service/memory.max" => Some(service.to_owned()),
                "/sys/fs/cgroup/memory.max" => Some(container.to_owned()),
                _ => None,
            }
        };
        let unlimited = "Max address space         unlimited            unlimited            bytes";
        assert_eq!(available(files(unlimited, "max\n", "max\n")), Some(16_384_000 * 1024));
        assert_eq!(available(files(LIMITS, "max\n", "max\n")), Some(512_000_000));
        assert_eq!(available(files(LIMITS, "256000000\n", "max\n")), Some(256_000_000));
        assert_eq!(available(files(unlimited, "max\n", "268435456\n")), Some(268_435_456));
        assert_eq!(available(|_| None), None);
        assert_eq!(share(Some(512_000_000)), 128_000_000);
        assert_eq!((share(None), share(Some(u64::MAX))), (SUBSCRIBERS_BYTES_MAX, SUBSCRIBERS_BYTES_MAX));
    }
}
