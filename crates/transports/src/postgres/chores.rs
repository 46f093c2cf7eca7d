//! Lets go of what is over a bound, in steps that are over soon. Marks first, rows later: readers go by the marks.

use std::sync::Arc;

use petasos_hub::TransportError;
use tokio_postgres::types::ToSql;

use super::{
    core::{Core, micros},
    link::Lane,
    log::field,
};
use crate::shared::pace::MARGIN_ENTRIES;

/// Rows that one statement deletes: some milliseconds.
const ROWS: i64 = 1_000;

/// How long an update that is too old for readers stays for followers on the way: that of a node which lost its
/// connection.
const MARGIN_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Trims for ever.
pub(super) async fn trim(core: Arc<Core>, lane: Lane) {
    let mut deleted = Deleted { epoch: 0, through: [0, 0] };
    loop {
        if let Err(error) = trim_once(&core, &lane, &mut deleted).await {
            // The next time does it, and whether the server answers is said elsewhere.
            tracing::debug!(%error, "{} was not trimmed", core.shown());
        }
        core.should_trim().await;
    }
}

/// What this process has deleted of a log, of updates and of events.
struct Deleted {
    epoch: i64,
    through: [i64; 2],
}

async fn trim_once(core: &Core, lane: &Lane, deleted: &mut Deleted) -> Result<(), TransportError> {
    let bounds = core.bounds;
    let margin = MARGIN_ENTRIES as i64;
    let age = bounds.age.map(|age| age.saturating_add(micros(MARGIN_AGE)));
    let row = lane
        .ask(|session| async move {
            let parameters: [&(dyn ToSql + Sync); 6] =
                [&bounds.entries, &bounds.bytes, &bounds.age, &bounds.events, &margin, &age];
            let row = session.client.query_opt(&session.statements.let_go, &parameters);
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
            let row = lane
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
    lane.ask(|session| async move {
        let (client, forget_leases) = (&session.client, &session.statements.forget_leases);
        Ok(client.execute(forget_leases, &[]).await?)
    })
    .await?;
    Ok(())
}
