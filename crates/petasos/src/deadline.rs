//! The deadlines of a process that stops: it ends at a known time, even if a part of it hangs.

use std::{io, process, thread, time::Duration};

use crate::output::STANDARD_ERROR;

/// The time that a process has after its drain: for updates that it has acknowledged, for its threads and its last log
/// lines. The process ends within two seconds after the drain; the rest of these is for the system.
pub const AFTER_DRAIN: Duration = Duration::from_millis(1_750);

/// How long open requests may take in a process that was asked to hurry: Ctrl-C at a terminal ends it within a second.
pub const HURRY_MAX: Duration = Duration::from_millis(500);

/// The time that a hub has to stop, beside the drain. Work that takes longer is cut off, as in a killed process.
pub const STOP_MAX: Duration = Duration::from_millis(1_250);

/// How long a process that ends waits for standard error to take the last log lines.
pub const LAST_LINES_MAX: Duration = Duration::from_millis(200);

/// Far more than it takes to sleep and to write one line of the log.
const STACK_BYTES: usize = 256 * 1024;

/// Ends the process after `time` with the exit code `code`, from a thread of its own: no runtime, lock or system call
/// that hangs can prevent it. No effect on a process that ends before.
///
/// # Errors
/// If the system has no thread for it.
pub fn end_process_after(time: Duration, code: u8) -> io::Result<()> {
    let thread = thread::Builder::new().name("petasos-deadline".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        #[expect(
            clippy::disallowed_methods,
            reason = "a thread that does nothing else, and must not need a runtime"
        )]
        thread::sleep(time);
        tracing::error!("a part of the hub did not stop in time: the process ends without it");
        end_process(code);
    })?;
    Ok(())
}

/// Ends the process now. Standard error has [`LAST_LINES_MAX`] to take the last log lines.
pub fn end_process(code: u8) -> ! {
    STANDARD_ERROR.flush(LAST_LINES_MAX);
    process::exit(code.into())
}
