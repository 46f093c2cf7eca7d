//! What the operating system says about a server: its processor time, its memory, and the kernel's share.
//!
//! Everything is read from `/proc`. Nothing is sampled while a run lasts: both are differences of two readings.

use std::{fs, time::Duration};

/// A server's process and all that it has started.
#[derive(Debug, Clone, Copy)]
pub struct Server(pub u32);

impl Server {
    /// User and system time since the start, of processes that have ended, too.
    pub fn cpu(self) -> Duration {
        let ticks = self.tree().iter().filter_map(|id| Stat::read(*id)).map(|stat| stat.ticks).sum::<u64>();
        TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Bytes of memory that are in use (resident set size).
    ///
    /// From `smaps_rollup`, which counts; `status` shows estimates that are off by hundreds of kilobytes.
    pub fn memory(self) -> u64 {
        self.sum("smaps_rollup", "Rss:")
    }

    /// The most bytes that were in use since [`Self::forget_peak`].
    pub fn memory_peak(self) -> u64 {
        self.sum("status", "VmHWM:")
    }

    /// Begins a new peak. Without the right to do so, the peak remains that of the whole life.
    pub fn forget_peak(self) {
        for id in self.tree() {
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }

    /// Open files, connections among them.
    pub fn files(self) -> usize {
        let count = |id: &u32| fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        self.tree().iter().map(count).sum()
    }

    fn sum(self, file: &str, name: &str) -> u64 {
        let value = |id: &u32| kilobytes(&format!("/proc/{id}/{file}"), name);
        self.tree().iter().filter_map(value).sum::<u64>() * 1_024
    }

    /// The process and its descendants.
    fn tree(self) -> Vec<u32> {
        let names = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let parents: Vec<_> = ids.filter_map(|id| Some((id, Stat::read(id)?.parent))).collect();
        let mut tree = vec![self.0];
        let mut at = 0;
        while let Some(parent) = tree.get(at).copied() {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
            at += 1;
        }
        tree
    }
}

/// Processor time that the whole machine has used so far. What neither server nor tool has used disturbs a measurement.
pub fn machine_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    TICK * u32::try_from(busy(&stat).unwrap_or_default()).unwrap_or(u32::MAX)
}

/// Ticks of all kinds but idle and waiting for disks; those of guests are in others already.
fn busy(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.split_whitespace().skip(1).take(8).map(str::parse::<u64>);
    let ticks = fields.collect::<Result<Vec<_>, _>>().ok()?;
    Some(ticks.iter().enumerate().filter(|(field, _)| ![3, 4].contains(field)).map(|(_, ticks)| ticks).sum())
}

/// Linux shows times in hundredths of a second to programs, whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// The name may hold anything, parentheses too; all fields after it are numbers.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // utime, stime, and both of the children that were waited for.
        let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
        Some(Self { parent: u32::try_from(number(1)?).ok()?, ticks })
    }
}

/// The kernel's memory. Both ends of a connection count when they are on one machine.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Bytes that TCP's queues hold.
    pub queues: u64,
    /// Bytes of kernel objects: sockets, files, and what waits for them.
    pub objects: u64,
}

impl Kernel {
    /// As it is now.
    pub fn read() -> Self {
        let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        Self {
            queues: pages(&sockets).unwrap_or_default() * PAGE_BYTES,
            objects: kilobytes("/proc/meminfo", "Slab:").unwrap_or_default() * 1_024,
        }
    }
}

/// On all processors but a few that are configured otherwise.
const PAGE_BYTES: u64 = 4_096;

fn pages(sockets: &str) -> Option<u64> {
    let line = sockets.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read_whatever_their_name() {
        let stat = Stat::parse("7 (a) b) (c) S 3 7 7 0 -1 4194560 9 8 7 6 100 20 3 4 20 0 1 0 5")
            .expect("a process");
        assert_eq!((stat.parent, stat.ticks), (3, 127));
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        assert_eq!(busy("cpu  1 2 4 1000 2000 8 16 32 4000 8000\ncpu0 1"), Some(63));
    }

    #[test]
    fn this_process_uses_memory_and_files() {
        let server = Server(std::process::id());
        assert!(server.memory() > 100_000 && server.memory_peak() > 100_000 && server.files() > 2);
    }

    #[test]
    fn the_queues_of_tcp_are_counted_in_pages() {
        assert_eq!(
            pages("sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 28\nUDP: inuse 0 mem 5"),
            Some(28)
        );
    }
}
