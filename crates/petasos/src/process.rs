//! What the system says of this process. On systems other than Linux, some of it is not known.

use std::{fs, time::Duration};

use petasos_server::metrics::{
    Samples,
    table::{
        PROCESS_CPU_SECONDS_TOTAL, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT_MEMORY_BYTES,
        PROCESS_START_TIME_SECONDS, PROCESS_THREADS, PROCESS_VIRTUAL_MEMORY_BYTES,
    },
};
use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// What the system says of this process.
#[derive(Debug)]
pub(crate) struct Process {
    /// In seconds since 1970, if it is known.
    started_at: Option<f64>,
}

impl Process {
    pub(crate) fn new() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        let stat = read("/proc/self/stat");
        let machine = read("/proc/stat");
        Self { started_at: started_at(stat.as_deref(), machine.as_deref(), clock_ticks_per_second()) }
    }

    /// Adds the values that are known.
    pub(crate) fn add(&self, samples: &mut Samples) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(cpu).unwrap_or_default();
        samples.push(&PROCESS_CPU_SECONDS_TOTAL, &[], cpu.as_secs_f64());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kibibytes) = number(&status, "VmRSS:") {
            samples.push(&PROCESS_RESIDENT_MEMORY_BYTES, &[], kibibytes * 1024);
        }
        if let Some(kibibytes) = number(&status, "VmSize:") {
            samples.push(&PROCESS_VIRTUAL_MEMORY_BYTES, &[], kibibytes * 1024);
        }
        if let Some(open) = open_files() {
            samples.push(&PROCESS_OPEN_FDS, &[], open);
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            samples.push(&PROCESS_MAX_FDS, &[], max);
        }
        if let Some(started_at) = self.started_at {
            samples.push(&PROCESS_START_TIME_SECONDS, &[], started_at);
        }
        if let Some(threads) = number(&status, "Threads:") {
            samples.push(&PROCESS_THREADS, &[], threads);
        }
    }
}

/// The number of open files. Since version 6.2, Linux says it as the size of the directory; to list many thousands takes
/// milliseconds.
fn open_files() -> Option<u64> {
    match fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len()) {
        0 => Some(fs::read_dir("/dev/fd").ok()?.count() as u64),
        count => Some(count),
    }
}

/// The number after a name in a file of lines.
fn number(lines: &str, name: &str) -> Option<u64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// When a process started: the start of the machine, and the ticks since then, which are the 22nd field of the process's
/// `stat`. The second field is the name in parentheses, which may hold spaces.
fn started_at(stat: Option<&str>, machine: Option<&str>, ticks_per_second: u64) -> Option<f64> {
    let (_, fields) = stat?.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let booted = number(machine?, "btime")?;
    Some(booted as f64 + ticks as f64 / ticks_per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_whatever_the_name_of_the_process() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 1 0 0 0 20 0 3 0 250 1 1 18446744073709551615";
        assert_eq!(started_at(Some(stat), Some("cpu 1\nbtime 1000\n"), 100), Some(1_002.5));
        for (stat, machine) in
            [(None, Some("btime 1")), (Some(stat), None), (Some("7 (a) S"), Some("btime 1"))]
        {
            assert_eq!(started_at(stat, machine, 100), None);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_open_file_counts() {
        let open = || open_files().expect("a number");
        let before = open();
        let files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").expect("a file")).collect();
        // Other tests open and close some files meanwhile.
        assert!(open() >= before + 400, "{before} {}", open());
        drop(files);
    }
}
