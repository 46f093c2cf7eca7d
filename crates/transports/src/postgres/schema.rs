//! The tables: made when they are missing, by one node at a time.
//!
//! Both origins are in one table and numbered twice: `sequence` is the order of the log, `ordinal` counts the entries of
//! an origin, so that where a history of so many entries begins is a look into an index. The one row of the meta table
//! says how far both numbers have come, and a writer locks it until its commit.

use std::time::Duration;

use tokio_postgres::{Client, error::SqlState};

use super::failure::Failure;

/// The names of the tables, quoted.
pub(super) struct Tables {
    pub(super) meta: String,
    pub(super) log: String,
    pub(super) records: String,
    pub(super) leases: String,
    /// The channel of notifications, as text.
    pub(super) channel: String,
    names: [String; 4],
    /// What all advisory locks of this log have in common.
    pub(super) lock: i32,
}

/// The tables as this version makes and reads them.
const VERSION: i32 = 1;

/// `MATERIALIZED`, identity columns and `sha256`.
const SERVER_VERSION_MIN: i32 = 120_000;

/// Has `transaction_timeout`.
const SERVER_VERSION_17: i32 = 170_000;

/// What a server says of itself.
pub(super) struct Greeting {
    /// Which server it is: when it was started, to the microsecond.
    pub(super) server: String,
    /// What is out of order without keeping anybody from work, for the operator.
    pub(super) warnings: Vec<String>,
}

impl Tables {
    /// Of the log of that name, which has been checked.
    pub(super) fn new(name: &str) -> Self {
        let quoted = |suffix| format!("\"{name}_{suffix}\"");
        let names = ["meta", "log", "records", "leases"].map(quoted);
        let [meta, log, records, leases] = names.clone();
        let lock = crc32fast::hash(name.as_bytes()).cast_signed();
        Self { meta, log, records, leases, channel: name.to_owned(), names, lock }
    }

    /// The table of documents, quoted, of the log of that name. It is made with the first document.
    pub(super) fn documents(name: &str) -> String {
        format!("\"{name}_documents\"")
    }

    /// Sets a new session up and makes the tables if they are missing.
    pub(super) async fn prepare(&self, client: &Client, timeout: Duration) -> Result<Greeting, Failure> {
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::integer, current_setting('fsync'),
                    current_setting('full_page_writes'), current_user::text, current_schema()::text,
                    extract(epoch FROM pg_postmaster_start_time())::text",
                &[],
            )
            .await?;
        let version: i32 = row.try_get(0)?;
        if version < SERVER_VERSION_MIN {
            let version = version / 10_000;
            return Err(Failure::for_operator(format!(
                "the server is PostgreSQL {version}: update it to 12 or later"
            )));
        }
        let mut warnings = Vec::new();
        for (at, setting) in [(1, "fsync"), (2, "full_page_writes")] {
            if row.try_get::<_, String>(at)? == "off" {
                warnings.push(format!(
                    "the server has {setting} = off: updates that were acknowledged are lost, and more may be, \
                     when its machine fails"
                ));
            }
        }
        client.batch_execute(&settings(timeout, version)).await?;
        self.make(client).await.map_err(|failure| {
            let (user, schema) = (row.try_get::<_, String>(3), row.try_get::<_, Option<String>>(4));
            let (user, schema) = (user.unwrap_or_default(), schema.ok().flatten());
            self.explain(failure, &user, schema.as_deref())
        })?;
        Ok(Greeting { server: row.try_get(5)?, warnings })
    }

    async fn make(&self, client: &Client) -> Result<(), Failure> {
        let version = match self.version(client).await? {
            Some(version) => version,
            None => {
                // Held by the session: what is missing must be looked for once nobody else makes it. Making again what
                // others use already would wait for them, and they for us.
                let lock = self.lock;
                client.batch_execute(&format!("SELECT pg_advisory_lock({lock}, 0)")).await?;
                if self.version(client).await?.is_none() {
                    // One transaction, because it is one message.
                    client.batch_execute(&self.creation(self.missing(client).await?)).await?;
                }
                client.batch_execute(&format!("SELECT pg_advisory_unlock({lock}, 0)")).await?;
                self.version(client).await?.unwrap_or(VERSION)
            }
        };
        match version {
            VERSION => Ok(()),
            later => Err(Failure::for_operator(format!(
                "the log's tables have version {later}, this petasos knows {VERSION}: update petasos"
            ))),
        }
    }

    /// The version of the tables; `None`: they are not all there.
    async fn version(&self, client: &Client) -> Result<Option<i32>, Failure> {
        if self.missing(client).await?.contains(&true) {
            return Ok(None);
        }
        let row = client.query_opt(&format!("SELECT version FROM {}", self.meta), &[]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Which tables are missing, in the order of their names.
    async fn missing(&self, client: &Client) -> Result<[bool; 4], Failure> {
        let [meta, log, records, leases] = &self.names;
        let row = client
            .query_one(
                "SELECT to_regclass($1) IS NULL, to_regclass($2) IS NULL, to_regclass($3) IS NULL,
                    to_regclass($4) IS NULL",
                &[meta, log, records, leases],
            )
            .await?;
        Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?])
    }

    /// The tables that are missing, and the meta row: after what is in the log, should only that row be lost.
    fn creation(&self, missing: [bool; 4]) -> String {
        let Self { meta, log, records, leases, channel, .. } = self;
        let all = [
            format!(
                "CREATE TABLE {meta} (
                    one boolean PRIMARY KEY DEFAULT true CHECK (one),
                    version integer NOT NULL,
                    epoch bigint NOT NULL,
                    head bigint NOT NULL,
                    head_id bytea,
                    head_at timestamptz NOT NULL,
                    updates bigint NOT NULL,
                    update_bytes bigint NOT NULL,
                    updates_hidden bigint NOT NULL,
                    updates_gone bigint NOT NULL,
                    updates_gone_at bigint NOT NULL,
                    events bigint NOT NULL,
                    events_hidden bigint NOT NULL,
                    events_gone bigint NOT NULL,
                    events_gone_at bigint NOT NULL
                ) WITH (fillfactor = 10);"
            ),
            // Compression would take time while the meta row is locked.
            format!(
                "CREATE TABLE {log} (
                    is_event boolean NOT NULL,
                    sequence bigint NOT NULL,
                    ordinal bigint NOT NULL,
                    bytes_before bigint NOT NULL,
                    created_at timestamptz NOT NULL,
                    id bytea NOT NULL,
                    record bytea NOT NULL,
                    PRIMARY KEY (is_event, sequence),
                    UNIQUE (is_event, ordinal)
                ) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
                ALTER TABLE {log} ALTER COLUMN record SET STORAGE EXTERNAL;
                CREATE INDEX \"{channel}_log_id\"
                    ON {log} (substring(sha256(id) FROM 1 FOR 16), is_event, sequence);"
            ),
            format!(
                "CREATE TABLE {records} (
                    node text COLLATE \"C\" NOT NULL,
                    subscriber text COLLATE \"C\" NOT NULL,
                    number bigint GENERATED ALWAYS AS IDENTITY,
                    texts integer[] NOT NULL,
                    record bytea NOT NULL,
                    PRIMARY KEY (node, subscriber)
                );
                CREATE INDEX \"{channel}_records_number\" ON {records} (number);
                CREATE INDEX \"{channel}_records_text\" ON {records} USING gin (texts);"
            ),
            format!(
                "CREATE TABLE {leases} (
                    node text COLLATE \"C\" PRIMARY KEY,
                    expires timestamptz NOT NULL,
                    kept boolean NOT NULL
                );"
            ),
        ];
        let tables: String = all
            .into_iter()
            .zip(missing)
            .filter_map(|(table, is_missing)| is_missing.then_some(table))
            .collect();
        let last = |column: &str, which: &str, direction: &str| {
            format!(
                "coalesce((SELECT {column} FROM {log} WHERE is_event = {which} ORDER BY sequence {direction} LIMIT 1), 0)"
            )
        };
        format!(
            "{tables}
            INSERT INTO {meta} SELECT true, {VERSION}, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
                greatest({update_head}, {event_head}), (SELECT id FROM {log} ORDER BY sequence DESC LIMIT 1), clock_timestamp(),
                {updates}, {bytes}, {updates_gone}, {updates_gone}, 0, {events}, {events_gone}, {events_gone}, 0
            ON CONFLICT DO NOTHING;",
            update_head = last("sequence", "false", "DESC"),
            event_head = last("sequence", "true", "DESC"),
            updates = last("ordinal", "false", "DESC"),
            bytes = last("bytes_before + octet_length(record)", "false", "DESC"),
            updates_gone = last("ordinal - 1", "false", "ASC"),
            events = last("ordinal", "true", "DESC"),
            events_gone = last("ordinal - 1", "true", "ASC"),
        )
    }

    fn explain(&self, failure: Failure, user: &str, schema: Option<&str>) -> Failure {
        if failure.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return match schema {
                None => Failure::for_operator(format!("{failure}: no schema of the search_path exists")),
                Some(_) => failure,
            };
        }
        let schema = schema.unwrap_or("public");
        let tables = self.names.join(", ");
        Failure::for_operator(format!(
            "{failure}: as owner of the database, run once either CREATE SCHEMA AUTHORIZATION \"{user}\", or \
             GRANT USAGE, CREATE ON SCHEMA \"{schema}\" TO \"{user}\"; where the tables exist, \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO \"{user}\""
        ))
    }
}

/// A session's settings: durable commits whatever the server's default is; the plans that the statements were written
/// for, because those made while a table is empty are kept when it is not; and an end to whatever would keep other nodes
/// waiting for this one.
fn settings(timeout: Duration, server_version: i32) -> String {
    let (statement, lock) = (timeout.mul_f64(0.8).as_millis(), timeout.mul_f64(0.6).as_millis());
    let transaction = match server_version >= SERVER_VERSION_17 {
        true => format!("SET transaction_timeout = {};", timeout.as_millis()),
        false => String::new(),
    };
    format!(
        "SELECT set_config('synchronous_commit',
            CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);
        SET client_min_messages = warning;
        SET default_transaction_isolation = 'read committed';
        SET statement_timeout = {statement};
        SET lock_timeout = {lock};
        SET idle_in_transaction_session_timeout = {statement};
        {transaction}
        SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
        SET plan_cache_mode = force_generic_plan;
        SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off;"
    )
}
