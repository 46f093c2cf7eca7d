//! The end of a process at a certain time, whatever hangs in it.

use std::{io, process, thread, time::Duration};

use crate::output::STANDARD_ERROR;

/// What a process that stops has after its drain: for what it has acknowledged, for its threads, for its last log lines.
/// It ends within two seconds after the drain, and this leaves some of them to the system.
pub const AFTER_DRAIN: Duration = Duration::from_millis(1_750);

/// What a hub that stops has beside its drain. What takes longer is left as a killed process would leave it.
pub const STOP_MAX: Duration = Duration::from_millis(1_250);

/// How long a process that ends waits for standard error to take the last log lines.
pub const LAST_LINES_MAX: Duration = Duration::from_millis(200);

/// Ends the process after that time with that code, from a thread of its own: a runtime, a lock or a call of the system
/// that hangs does not keep it. A process that ends before is not affected.
///
/// # Errors
/// If the system has no thread for it.
pub fn end_process_after(time: Duration, code: u8) -> io::Result<()> {
    let thread = thread::Builder::new().name("petasos-deadline".to_owned());
    thread.spawn(move || {
        thread::sleep(time);
        tracing::error!("a part of the hub did not stop in time: the process ends without it");
        end_process(code);
    })?;
    Ok(())
}

/// Ends the process now, with what standard error takes of the last log lines in a moment.
pub fn end_process(code: u8) -> ! {
    STANDARD_ERROR.flush(LAST_LINES_MAX);
    process::exit(code.into())
}
