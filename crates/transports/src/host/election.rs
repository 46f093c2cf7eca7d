//! Who leads: the process that holds the lock of the log. The others are its members, and one of them takes the lock when it
//! has left or died.

use std::{io, path::Path, sync::Arc, time::Duration};

use petasos_hub::TransportError;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    access::{Access, CHANGE_MAX, Host},
    leader::Leader,
    link::{Refusal, SILENCE_MAX},
    member::Member,
};
use crate::{
    OpenError,
    blocking::blocking,
    durable::{
        directory::{Directory, Lock, Turn},
        settings::Users,
    },
};

/// What this process has become.
enum Role {
    Leader(Leader),
    Member(Member),
}

/// The pauses while a process holds the lock and does not answer yet: it takes some milliseconds to open the log.
const PAUSE_FIRST: Duration = Duration::from_millis(4);
const PAUSE_LAST: Duration = Duration::from_millis(250);

/// The longest pause where the log cannot be opened: each attempt may copy it.
const PAUSE_OF_REFUSED: Duration = Duration::from_secs(5);

/// A role that has lasted so long is begun again at once when it ends, and a shorter one after a longer pause each time.
const STEADY: Duration = Duration::from_secs(2);

/// How long the first role is waited for, at least: in this time a process that does not answer is replaced.
const OPEN_MIN: Duration = Duration::from_secs(10);

/// Leads or is a member, again and again, until the log is closed. `opened` gets the first outcome; nothing is tried again
/// after a first failure.
pub(super) async fn run(host: Arc<Host>, opened: oneshot::Sender<Result<(), OpenError>>) {
    let mut opened = Some(opened);
    let mut pause = PAUSE_FIRST;
    loop {
        let role = tokio::select! {
            biased;
            () = host.closed() => return,
            role = seek(&host) => role,
        };
        let longest = match role {
            Ok(role) => {
                if let Some(opened) = opened.take() {
                    // An error means that nobody wants the log any more.
                    let _ = opened.send(Ok(()));
                }
                let began = Instant::now();
                hold(&host, role).await;
                if began.elapsed() >= STEADY {
                    pause = PAUSE_FIRST;
                }
                PAUSE_LAST
            }
            Err(error) => {
                let passes = matches!(error, OpenError::Transport(TransportError::Unavailable(_)));
                let is_over = !passes || host.missing_for() >= host.settings.timeout.max(OPEN_MIN);
                if is_over && let Some(opened) = opened.take() {
                    let _ = opened.send(Err(error));
                    return;
                }
                if opened.is_none() && host.missing_for() >= CHANGE_MAX {
                    host.health.set_unavailable(&error);
                }
                if passes { PAUSE_LAST } else { PAUSE_OF_REFUSED }
            }
        };
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Leads if nobody does, and is a member otherwise.
async fn seek(host: &Host) -> Result<Role, OpenError> {
    let settings = &host.settings;
    settings.trust_directory()?;
    // Who holds the lock is looked at before that process is asked: another one may lead when no answer has come.
    let holder = match in_directory(host, |path, name| Directory::try_lock(path, name, Users::Host)).await? {
        Lock::Taken(directory, turn) => {
            // It may have been made by somebody else in between.
            settings.trust_directory()?;
            return lead(host, directory, turn).await;
        }
        Lock::Held(holder) => Some(holder),
        Lock::Busy => None,
    };
    let error = match Member::join(settings, host.number, &host.decoder).await {
        Ok((member, head)) => {
            host.saw(head);
            return Ok(Role::Member(member));
        }
        // During a rolling restart it leaves before long.
        Err(Refusal::Refused(text)) => return Err(TransportError::unavailable(text).into()),
        Err(Refusal::Unreachable(error)) => error,
    };
    // One that refuses a connection lives, or has just ended.
    if error.kind() == io::ErrorKind::TimedOut
        && host.missing_for() >= SILENCE_MAX
        && let Some(holder) = holder
        && let Some((directory, turn)) =
            in_directory(host, move |path, name| Directory::take_over(path, name, &holder)).await?
    {
        tracing::warn!(%error, "the process that led the host's log does not answer: this one leads now");
        return lead(host, directory, turn).await;
    }
    Err(TransportError::unavailable(format!(
        "the process that holds the lock of the log \"{}\" in \"{}\" does not answer: {error}",
        settings.name,
        settings.directory.display()
    ))
    .into())
}

/// Does something with the directory where it may take its time.
async fn in_directory<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&Path, &str) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let (path, name) = (host.settings.directory.clone(), host.settings.name.clone());
    blocking(move || work(&path, &name)).await.map_err(OpenError::Resources)?
}

/// The turn ends when other processes can ask this one.
async fn lead(host: &Host, directory: Directory, _turn: Turn) -> Result<Role, OpenError> {
    let Host { settings, options, decoder, .. } = host;
    Ok(Role::Leader(Leader::begin(directory, settings, options, decoder).await?))
}

/// Returns when this process is neither any more.
async fn hold(host: &Host, role: Role) {
    host.health.set_available();
    let silence = match role {
        Role::Leader(leader) => {
            tracing::debug!("this process leads the log of the host");
            host.saw(leader.log.end());
            host.gain(Access::Leader(Arc::clone(&leader.log)));
            leader.serve(host.closed()).await;
            Duration::ZERO
        }
        Role::Member(member) => {
            let link = Arc::clone(&member.link);
            host.gain(Access::Member(Arc::new(member)));
            tokio::select! {
                () = link.ended() => {}
                () = host.closed() => {}
            }
            link.silence()
        }
    };
    host.lose(silence);
}
