//! The documents: a table, made when the first document is stored, since most logs have none.

use std::sync::Arc;

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    documents::{Document, Documents, Version, check, check_name},
};

use super::{
    failure::Failure,
    link::{Link, Session},
    log::field,
};

/// The documents beside a log.
#[derive(Clone)]
pub(super) struct SharedDocuments {
    pub(super) link: Link,
    /// Its name, quoted.
    pub(super) table: String,
}

#[async_trait]
impl Documents for SharedDocuments {
    async fn load(&self, name: &str) -> Result<Option<Document>, TransportError> {
        check_name(name)?;
        let Self { link, table } = self;
        let query = &format!("SELECT version, bytes FROM {table} WHERE name = $1");
        let row = link.ask(|session: Arc<Session>| async move {
            if !has_table(&session, table).await? {
                return Ok(None);
            }
            Ok(session.client.query_opt(query, &[&name]).await?)
        });
        let Some(row) = row.await? else { return Ok(None) };
        let version: i64 = field(&row, 0)?;
        Ok(Some(Document { bytes: field(&row, 1)?, version: Version(version.cast_unsigned()) }))
    }

    /// Its question may be asked twice, if the first answer was lost: then the document may have been stored, and the answer says
    /// that another version is there.
    async fn store(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<Version>,
    ) -> Result<Option<Version>, TransportError> {
        check(name, bytes)?;
        let Self { link, table } = self;
        let expected = expected.map(|version| version.0.cast_signed());
        let statement = &match expected {
            // Later than every version of a table that was lost.
            None => format!(
                "INSERT INTO {table} (name, version, bytes)
                VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2)
                ON CONFLICT DO NOTHING RETURNING version"
            ),
            Some(_) => format!(
                "UPDATE {table} SET bytes = $2, version = version + 1 WHERE name = $1 AND version = $3
                RETURNING version"
            ),
        };
        let (creation, lock) = (&creation(table), &expected);
        let row = link.ask(|session: Arc<Session>| async move {
            let Session { client, .. } = &*session;
            if !has_table(&session, table).await? {
                client.batch_execute(creation).await?;
            }
            Ok(match lock {
                None => client.query_opt(statement, &[&name, &bytes]).await?,
                Some(expected) => client.query_opt(statement, &[&name, &bytes, expected]).await?,
            })
        });
        let Some(row) = row.await? else { return Ok(None) };
        let version: i64 = field(&row, 0)?;
        Ok(Some(Version(version.cast_unsigned())))
    }
}

async fn has_table(session: &Session, table: &str) -> Result<bool, Failure> {
    let row = session.client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    Ok(row.try_get(0)?)
}

/// One transaction, because it is one message. Of several nodes one makes the table, and the others wait for it.
fn creation(table: &str) -> String {
    format!(
        "SELECT pg_advisory_xact_lock({});
        CREATE TABLE IF NOT EXISTS {table} (
            name text COLLATE \"C\" PRIMARY KEY,
            version bigint NOT NULL,
            bytes bytea NOT NULL
        );",
        crc32fast::hash(table.as_bytes())
    )
}
