//! Who leads: the process that holds the lock of the log. The others are its members, and one of them takes the lock when it
//! has left or died.

use std::{path::Path, sync::Arc, time::Duration};

use petasos_hub::TransportError;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    end::{CHANGE_MAX, End, Ends},
    leader::Leader,
    link::{Refusal, SILENCE_MAX},
    member::Member,
};
use crate::{
    OpenError,
    durable::{directory::Directory, settings::Users},
};

/// What this process has become.
enum Office {
    Leader(Leader),
    Member(Member),
}

/// The pauses while a process holds the lock and does not answer yet: it takes some milliseconds to open the log.
const PAUSE_FIRST: Duration = Duration::from_millis(4);
const PAUSE_LAST: Duration = Duration::from_millis(250);

/// Leads or is a member, again and again, until the log is closed. `opened` gets the first outcome; nothing is tried again
/// after a first failure.
pub(super) async fn run(ends: Arc<Ends>, opened: oneshot::Sender<Result<(), OpenError>>) {
    let mut opened = Some(opened);
    let mut pause = PAUSE_FIRST;
    loop {
        let office = tokio::select! {
            biased;
            () = ends.closed() => return,
            office = seek(&ends) => office,
        };
        match office {
            Ok(office) => {
                if let Some(opened) = opened.take() {
                    // An error means that nobody wants the log any more.
                    let _ = opened.send(Ok(()));
                }
                pause = PAUSE_FIRST;
                hold(&ends, office).await;
                continue;
            }
            Err(error) => {
                let is_new = opened.is_some();
                let is_over = match &error {
                    OpenError::Transport(TransportError::Unavailable(_)) => {
                        ends.missing_for() >= ends.settings.timeout
                    }
                    _ => true,
                };
                if is_new && is_over {
                    if let Some(opened) = opened.take() {
                        let _ = opened.send(Err(error));
                    }
                    return;
                }
                if !is_new && ends.missing_for() >= CHANGE_MAX {
                    ends.health.set_unavailable(&error);
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

/// Leads if nobody does, and is a member otherwise.
async fn seek(ends: &Ends) -> Result<Office, OpenError> {
    let settings = &ends.settings;
    settings.trust_directory()?;
    if let Some(directory) = blocking(ends, |path, name| Directory::try_lock(path, name, Users::Host)).await?
    {
        // It may have been made by somebody else in between.
        settings.trust_directory()?;
        return lead(ends, directory).await;
    }
    let error = match Member::join(settings, ends.number, &ends.decoder).await {
        Ok((member, head)) => {
            ends.saw(head);
            return Ok(Office::Member(member));
        }
        Err(Refusal::Refused(text)) => return Err(OpenError::Refused(text)),
        Err(Refusal::Nobody(error)) => error,
    };
    let silence = ends.missing_for();
    if silence >= SILENCE_MAX
        && let Some(directory) =
            blocking(ends, move |path, name| Directory::take_over(path, name, silence)).await?
    {
        tracing::warn!(%error, "the process that led the host's log does not answer: this one leads now");
        return lead(ends, directory).await;
    }
    Err(TransportError::unavailable(format!(
        "the process that holds the lock of the log \"{}\" in \"{}\" does not answer: {error}",
        settings.name,
        settings.directory.display()
    ))
    .into())
}

/// Does something with the directory where it may take its time.
async fn blocking<T: Send + 'static>(
    ends: &Ends,
    work: impl FnOnce(&Path, &str) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let (path, name) = (ends.settings.directory.clone(), ends.settings.name.clone());
    let done = tokio::task::spawn_blocking(move || work(&path, &name)).await;
    done.map_err(TransportError::unavailable)?
}

async fn lead(ends: &Ends, directory: Directory) -> Result<Office, OpenError> {
    let Ends { settings, options, decoder, .. } = ends;
    Ok(Office::Leader(Leader::begin(directory, settings, options, decoder).await?))
}

/// Returns when this process is neither any more.
async fn hold(ends: &Ends, office: Office) {
    ends.health.set_available();
    let silence = match office {
        Office::Leader(leader) => {
            tracing::debug!("this process leads the log of the host");
            ends.saw(leader.log.end());
            ends.set(End::Leader(Arc::clone(&leader.log)));
            leader.serve(ends.closed()).await;
            Duration::ZERO
        }
        Office::Member(member) => {
            let link = Arc::clone(&member.link);
            ends.set(End::Member(Arc::new(member)));
            tokio::select! {
                () = link.ended() => {}
                () = ends.closed() => {}
            }
            link.silence()
        }
    };
    ends.lose(silence);
}

/// The time until which a call waits.
pub(super) fn deadline(ends: &Ends) -> Instant {
    Instant::now() + ends.settings.timeout
}
