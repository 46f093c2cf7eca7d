//! What runs beside the appends: trimming in short steps, and probes for room. Trimming moves the marks first and deletes
//! rows later: readers go by the marks.

use std::sync::Arc;

use futures_util::future::join3;
use petasos_hub::TransportError;
use tokio_postgres::types::ToSql;

use super::{
    core::{Core, micros},
    link::{Link, Session},
    log::field,
};
use crate::shared::pace::MARGIN_ENTRIES;

/// Rows that one statement deletes: some milliseconds.
const ROWS: i64 = 1_000;

/// How long an update that is too old for readers stays for followers that lag, as those of a node which lost its
/// connection.
const MARGIN_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Trims the log whenever it is due. Never ends.
pub(super) async fn trim(core: Arc<Core>, link: Link) {
    let mut deleted = Deleted { epoch: 0, through: [0, 0] };
    loop {
        if let Err(error) = trim_once(&core, &link, &mut deleted).await {
            // The next time does it; the health of the log says whether the server answers.
            tracing::debug!(%error, "{} was not trimmed", core.shown());
        }
        core.should_trim().await;
    }
}

/// The sequences up to which this process has deleted rows, of updates and of events.
struct Deleted {
    epoch: i64,
    through: [i64; 2],
}

async fn trim_once(core: &Core, link: &Link, deleted: &mut Deleted) -> Result<(), TransportError> {
    let bounds = core.bounds;
    let margin = MARGIN_ENTRIES as i64;
    let age = bounds.age.map(|age| age.saturating_add(micros(MARGIN_AGE)));
    let row = link
        .ask(|session| async move {
            let parameters: [&(dyn ToSql + Sync); 6] =
                [&bounds.entries, &bounds.bytes, &bounds.age, &bounds.events, &margin, &age];
            let row = session.client.query_opt(&session.statements.trim, &parameters);
            Ok(row.await?)
        })
        .await?;
    let Some(row) = row else { return Ok(()) };
    let epoch: i64 = field(&row, 2)?;
    if epoch != deleted.epoch {
        *deleted = Deleted { epoch, through: [0, 0] };
    }
    for (origin, is_event) in [false, true].into_iter().enumerate() {
        let through: i64 = field(&row, origin)?;
        while deleted.through[origin] < through {
            let after = deleted.through[origin];
            let row = link
                .ask(|session| async move {
                    let (client, delete) = (&session.client, &session.statements.delete);
                    Ok(client.query_one(delete, &[&is_event, &after, &through, &ROWS]).await?)
                })
                .await?;
            let (count, last): (i64, Option<i64>) = (field(&row, 0)?, field(&row, 1)?);
            deleted.through[origin] = match last {
                Some(last) if count == ROWS => last,
                // Other nodes do the rest.
                _ => through,
            };
        }
    }
    link.ask(|session| async move {
        let (client, forget_leases) = (&session.client, &session.statements.forget_leases);
        Ok(client.execute(forget_leases, &[]).await?)
    })
    .await?;
    Ok(())
}

/// Probes for room whenever an append found none: writes as many bytes and rolls back. Never ends.
pub(super) async fn probe_room(core: Arc<Core>, link: Link) {
    loop {
        let bytes = i32::try_from(core.capacity.is_due().await).unwrap_or(i32::MAX);
        let bytes = &bytes;
        let looked = link.ask(|session: Arc<Session>| async move {
            let Session { client, statements, .. } = &*session;
            let parameters: [&(dyn ToSql + Sync); 1] = [bytes];
            // Each sends when it is polled first, which happens in this order.
            let (begun, tried, undone) = join3(
                client.batch_execute("BEGIN"),
                client.execute(&statements.try_room, &parameters),
                client.batch_execute("ROLLBACK"),
            )
            .await;
            begun?;
            tried?;
            undone?;
            Ok(())
        });
        match looked.await {
            Ok(()) => core.capacity.took(),
            Err(error) => tracing::debug!(%error, "{} has no room yet", core.shown()),
        }
    }
}
