//! Lines for standard error and standard output, written without making their callers wait.
//!
//! A line goes into a buffer, which is bounded in lines and bytes. A thread writes the buffer. A line that does not fit, or
//! that the system does not take, is dropped and counted. So a full disk, or a pipe that nobody reads, delays no request and
//! no stop. The rule here: the caller never waits and never sees a failure.
//!
//! A forked process has none of its parent's threads. If one of them held a lock at the fork, that lock stays held in the
//! child for ever. So the child gets its own buffer and thread with its first line. Lines that waited at the fork are
//! written by the parent only.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    process,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

/// Lines that may wait: several seconds of a hub that logs a refusal for each request.
const LINES_MAX: usize = 4_096;

/// Bytes of the lines that may wait.
const BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one line; the rest is cut off. A long field of a request must not fill the buffer.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// The pause between a failed write and the report of dropped lines, unless another line is written before.
const RETRY: Duration = Duration::from_secs(1);

/// The stack of a writer's thread. It only writes lines that are formatted already.
const STACK_BYTES: usize = 256 * 1024;

/// One of the two standard streams of this process.
pub struct Output {
    stream: Stream,
    /// The buffer of the process that wrote first; see [`Buffer::child`].
    buffer: OnceLock<Box<Buffer>>,
}

/// Standard error: the log.
pub static STANDARD_ERROR: Output = Output { stream: Stream::Error, buffer: OnceLock::new() };

/// Standard output: the lines that a hub prints when it starts.
pub static STANDARD_OUTPUT: Output = Output { stream: Stream::Output, buffer: OnceLock::new() };

impl Output {
    /// Queues one line, given without its line end. Never waits for the stream.
    pub fn print(&'static self, line: &str) {
        let mut text = String::with_capacity(line.len() + 1);
        text.push_str(line);
        text.push('\n');
        self.push(text);
    }

    /// Waits until all lines are written or have failed, for at most that time.
    pub fn flush(&'static self, time_max: Duration) {
        self.buffer().flush(time_max);
    }

    /// Lines of this process that were dropped.
    pub fn dropped(&'static self) -> u64 {
        self.buffer().lock().dropped
    }

    fn push(&'static self, line: String) {
        let buffer = self.buffer();
        let mut state = buffer.lock();
        let line = cut(line);
        if !state.has_room_for(line.len()) {
            state.drop_line(self.stream);
            return;
        }
        state.bytes += line.len();
        state.waiting.push_back(line);
        // If no thread can be started, the next line tries again.
        if !state.has_writer {
            let writer = thread::Builder::new().name("petasos-output".to_owned()).stack_size(STACK_BYTES);
            state.has_writer = writer.spawn(move || buffer.write_all_to(self.stream)).is_ok();
        }
        drop(state);
        buffer.pushed.notify_one();
    }

    /// The buffer of this process.
    fn buffer(&'static self) -> &'static Buffer {
        let process = process::id();
        let mut slot = &self.buffer;
        loop {
            // The closure is fast: after a fork during it, the child's slot would never be filled.
            let buffer = slot.get_or_init(|| Box::new(Buffer::new(process)));
            if buffer.process == process {
                return buffer;
            }
            slot = &buffer.child;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Error,
    Output,
}

impl Stream {
    /// Writes all bytes, and waits as long as that takes. Returns the number of bytes written, which is smaller if the
    /// system failed. It takes no lock of the standard library, which would be held while it waits.
    fn write(self, bytes: &[u8]) -> usize {
        match self {
            Self::Error => write_all(io::stderr().as_fd(), bytes),
            Self::Output => write_all(io::stdout().as_fd(), bytes),
        }
    }
}

fn write_all(stream: BorrowedFd<'_>, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(stream, &bytes[written..]) {
            Ok(length) if length > 0 => written += length,
            Err(Errno::INTR) => {}
            // Another process that has the same stream may have set it to non-blocking mode.
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)], None).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    written
}

/// The lines that wait for a stream in one process.
struct Buffer {
    process: u32,
    state: Mutex<State>,
    pushed: Condvar,
    written: Condvar,
    /// The buffer of a process that was forked from this one.
    child: OnceLock<Box<Buffer>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    /// Bytes of the lines that wait and of the line that is being written.
    bytes: usize,
    is_writing: bool,
    has_writer: bool,
    /// Lines that were dropped, ever.
    dropped: u64,
    /// Lines that were dropped and not reported yet; always 0 for standard output, which is no place for reports.
    unreported: u64,
    /// Before this, dropped lines are not reported: the stream has just failed.
    report_at: Option<Instant>,
}

/// The next step of the writer.
enum Next {
    Line(String),
    Report(u64),
    Wait(Option<Duration>),
}

impl State {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.waiting.len() < LINES_MAX && self.bytes + bytes <= BYTES_MAX
    }

    fn drop_line(&mut self, stream: Stream) {
        self.dropped += 1;
        self.unreported += u64::from(stream == Stream::Error);
    }

    fn next(&mut self) -> Next {
        // While lines are still being dropped, reports would take half of the room.
        let has_room = self.waiting.len() <= LINES_MAX / 2 && self.bytes <= BYTES_MAX / 2;
        let pause = self.report_at.map(|time| time.saturating_duration_since(Instant::now()));
        let may_report = pause.is_none_or(|pause| pause.is_zero());
        if self.unreported > 0 && has_room && may_report {
            return Next::Report(std::mem::take(&mut self.unreported));
        }
        match self.waiting.pop_front() {
            Some(line) => Next::Line(line),
            None => Next::Wait(pause.filter(|_| self.unreported > 0)),
        }
    }
}

impl Buffer {
    fn new(process: u32) -> Self {
        Self {
            process,
            state: Mutex::default(),
            pushed: Condvar::new(),
            written: Condvar::new(),
            child: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's thread. For standard error it lasts as long as the process. For standard output, where a hub prints only
    /// when it starts, it ends with the last line: glibc reserves 64 MiB of address space for a thread's allocations, which
    /// the next thread then reuses.
    fn write_all_to(&self, stream: Stream) {
        // Whether the last line was written in part. Then a line break comes before the next one.
        let mut is_torn = false;
        let mut state = self.lock();
        loop {
            let (text, reported) = match state.next() {
                Next::Line(line) => (line, 0),
                Next::Report(count) => (report(count), count),
                Next::Wait(pause) => {
                    self.written.notify_all();
                    if stream == Stream::Output && !is_torn {
                        state.has_writer = false;
                        return;
                    }
                    state = match pause {
                        None => self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner),
                        Some(pause) => {
                            let waited = self.pushed.wait_timeout(state, pause);
                            waited.unwrap_or_else(PoisonError::into_inner).0
                        }
                    };
                    continue;
                }
            };
            state.is_writing = true;
            drop(state);
            is_torn = is_torn && stream.write(b"\n") == 0;
            let written = if is_torn { 0 } else { stream.write(text.as_bytes()) };
            let has_failed = written < text.len();
            is_torn |= has_failed && written > 0;
            state = self.lock();
            state.is_writing = false;
            state.report_at = has_failed.then(|| Instant::now() + RETRY);
            match reported {
                0 => {
                    state.bytes -= text.len();
                    if has_failed {
                        state.drop_line(stream);
                    }
                }
                reported if has_failed => state.unreported += reported,
                _ => {}
            }
        }
    }

    fn flush(&self, time_max: Duration) {
        let is_busy = |state: &mut State| {
            state.is_writing
                || !state.waiting.is_empty()
                || (state.unreported > 0 && state.report_at.is_none())
        };
        drop(self.written.wait_timeout_while(self.lock(), time_max, is_busy));
    }
}

/// The line with the number of dropped lines, in the format of the log.
fn report(count: u64) -> String {
    let mut line = String::new();
    // A time that cannot be formatted is left out.
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    line.push_str("  WARN ");
    line.push_str(&match count {
        1 => "1 log line was".to_owned(),
        count => format!("{count} log lines were"),
    });
    line.push_str(" dropped: standard error did not take them in time\n");
    line
}

/// A line of bounded length.
fn cut(mut line: String) -> String {
    if line.len() > LINE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
        line.push_str("…\n");
    }
    // The line may wait for a while, and its bound counts bytes, not capacity.
    line.shrink_to_fit();
    line
}
