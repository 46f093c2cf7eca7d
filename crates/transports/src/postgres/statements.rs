//! The SQL statements. Each is a transaction of its own without a round trip inside, so a node that stops in the middle
//! blocks no other node.

use tokio_postgres::{Client, Statement};

use super::{failure::Failure, schema::Tables};

/// The statements of one connection.
pub(super) struct Statements {
    pub(super) append: Statement,
    pub(super) head: Statement,
    pub(super) extent: Statement,
    pub(super) locate: Statement,
    pub(super) read: Statement,
    pub(super) fetch: Statement,
    pub(super) trim: Statement,
    pub(super) delete: Statement,
    pub(super) lock_meta: Statement,
    pub(super) begin_epoch: Statement,
    pub(super) lock_node: Statement,
    pub(super) renew: Statement,
    pub(super) record: Statement,
    pub(super) expire: Statement,
    pub(super) end_lease: Statement,
    pub(super) abandoned: Statement,
    pub(super) resign: Statement,
    pub(super) use_bitmaps: Statement,
    pub(super) list: Statement,
    pub(super) forget_leases: Statement,
    pub(super) try_room: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client, tables: &Tables) -> Result<Self, Failure> {
        Ok(Self {
            append: client.prepare(&append(tables)).await?,
            head: client.prepare(&head(tables)).await?,
            extent: client.prepare(&extent(tables)).await?,
            locate: client.prepare(&locate(tables)).await?,
            read: client.prepare(&read(tables)).await?,
            fetch: client.prepare(&fetch(tables)).await?,
            trim: client.prepare(&trim(tables)).await?,
            delete: client.prepare(&delete(tables)).await?,
            lock_meta: client.prepare(&format!("SELECT FROM {} FOR UPDATE", tables.meta)).await?,
            begin_epoch: client.prepare(&begin_epoch(tables)).await?,
            lock_node: client.prepare(&format!("SELECT pg_advisory_xact_lock({}, $1)", tables.lock)).await?,
            renew: client.prepare(&renew(tables)).await?,
            record: client.prepare(&record(tables, true)).await?,
            expire: client.prepare(&record(tables, false)).await?,
            end_lease: client.prepare(&end_lease(tables)).await?,
            abandoned: client.prepare(&abandoned(tables)).await?,
            resign: client.prepare(&format!("DELETE FROM {} WHERE node = $1", tables.leases)).await?,
            use_bitmaps: client.prepare("SELECT set_config('enable_bitmapscan', 'on', true)").await?,
            list: client.prepare(&list(tables)).await?,
            forget_leases: client.prepare(&forget_leases(tables)).await?,
            try_room: client.prepare(&try_room(tables)).await?,
        })
    }
}

/// Bytes of one page or batch: each task that reads holds one in memory.
const PAGE_BYTES: usize = 256 * 1024;

/// Appends entries. For each entry: $1 is_event, $2 its number among those of its origin, $3 bytes of the updates before
/// it, $4 id, $5 record. For all together: $6 updates, $7 their bytes, $8 events, $9 the last id.
///
/// The row of meta is locked until the commit. So sequences are committed in their order: a reader that sees one sees all
/// below it. The server has one lock for all notifications, which is held during the commit only.
fn append(Tables { meta, log, channel, .. }: &Tables) -> String {
    format!(
        "WITH place AS (
            UPDATE {meta} SET head = head + $6::bigint + $8::bigint, head_id = $9::bytea,
                head_at = greatest(head_at, clock_timestamp()), updates = updates + $6,
                update_bytes = update_bytes + $7::bigint, events = events + $8
            RETURNING epoch, head - $6 - $8 AS head, head_at, updates - $6 AS updates,
                update_bytes - $7 AS update_bytes, events - $8 AS events
        ), entry AS (
            INSERT INTO {log} (is_event, sequence, ordinal, bytes_before, created_at, id, record)
            SELECT item.is_event, place.head + item.ord,
                CASE WHEN item.is_event THEN place.events ELSE place.updates END + item.nth,
                CASE WHEN item.is_event THEN 0 ELSE place.update_bytes + item.before END,
                place.head_at, item.id, item.record
            FROM place, unnest($1::boolean[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[])
                WITH ORDINALITY AS item(is_event, nth, before, id, record, ord)
        )
        SELECT epoch, head, pg_notify('{channel}', epoch || ' ' || head + $6 + $8) FROM place"
    )
}

/// Whether the oldest entries that are to be kept are missing, as `is_emptied`. `meta` is in scope. Scalar queries, because
/// the planner may build a table of all rows for `EXISTS`.
fn emptied(log: &str) -> String {
    let is_missing = |which: &str, origin: &str| {
        format!(
            "meta.{origin} > meta.{origin}_gone AND (SELECT ordinal FROM {log} AS entry
                WHERE entry.is_event = {which} AND entry.ordinal = meta.{origin}_gone + 1) IS NULL"
        )
    };
    format!("({} OR {}) AS is_emptied", is_missing("false", "updates"), is_missing("true", "events"))
}

fn head(Tables { meta, log, .. }: &Tables) -> String {
    format!("SELECT epoch, head, {}, head_id FROM {meta} AS meta", emptied(log))
}

/// Where the histories begin, as the table `edge`: ordinals and sequences of the newest entries that readers do not see any
/// more. The bounds: $1 updates, $2 their bytes, $3 their age in microseconds, $4 events.
///
/// `updates_hidden` is an earlier beginning. The search starts there, so it passes few entries.
fn edge(Tables { meta, log, .. }: &Tables) -> String {
    let place = |which: &str, origin: &str| {
        format!(
            "greatest({origin}_gone_at, coalesce((SELECT sequence FROM {log} AS entry
                WHERE entry.is_event = {which} AND entry.ordinal <= hidden.{origin}_edge
                    AND entry.ordinal > hidden.{origin}_gone
                ORDER BY entry.ordinal DESC LIMIT 1), 0)) AS {origin}_trimmed"
        )
    };
    format!(
        "meta AS MATERIALIZED (SELECT * FROM {meta}),
        hidden AS MATERIALIZED (
            SELECT meta.*, {emptied},
                coalesce((SELECT entry.ordinal - 1 FROM {log} AS entry
                    WHERE entry.is_event = false
                        AND entry.ordinal > greatest(meta.updates_hidden, meta.updates_gone, meta.updates - $1::bigint)
                        AND ($2::bigint IS NULL OR entry.bytes_before >= meta.update_bytes - $2)
                        AND ($3::bigint IS NULL
                            OR entry.created_at >= clock_timestamp() - $3 * interval '1 microsecond')
                    ORDER BY entry.ordinal LIMIT 1), meta.updates) AS updates_edge,
                greatest(meta.events_hidden, meta.events_gone, meta.events - $4::bigint) AS events_edge
            FROM meta
        ),
        edge AS MATERIALIZED (SELECT hidden.*, {updates}, {events} FROM hidden)",
        emptied = emptied(log),
        updates = place("false", "updates"),
        events = place("true", "events"),
    )
}

/// The earliest entry that readers see with the id $5.
fn locate(tables: &Tables) -> String {
    let log = &tables.log;
    let first = |which: &str, origin: &str| {
        format!(
            "(SELECT sequence FROM {log} WHERE substring(sha256(id) FROM 1 FOR 16) = substring(sha256($5::bytea) FROM 1 FOR 16)
                AND is_event = {which} AND sequence > edge.{origin}_trimmed AND id = $5
            ORDER BY sequence LIMIT 1)"
        )
    };
    format!(
        "WITH {} SELECT epoch, head, is_emptied, least({}, {}) FROM edge",
        edge(tables),
        first("false", "updates"),
        first("true", "events")
    )
}

/// How many updates readers see, their bytes, and when the oldest one was appended, in seconds since 1970.
fn extent(tables: &Tables) -> String {
    format!(
        "WITH {}
        SELECT epoch, head, is_emptied, updates - updates_edge, update_bytes - oldest.bytes_before,
            extract(epoch FROM oldest.created_at)::double precision
        FROM edge LEFT JOIN LATERAL (
            SELECT bytes_before, created_at FROM {} AS entry
            WHERE entry.is_event = false AND entry.ordinal > edge.updates_edge ORDER BY entry.ordinal LIMIT 1
        ) AS oldest ON true",
        edge(tables),
        tables.log,
    )
}

/// Entries of both origins, in order, as the table `page`: at most `limit`, and at most a page's bytes. The table `candidate`
/// has up to one more, which shows whether the page is the last. `edge` is in scope.
fn page(log: &str, after_update: &str, after_event: &str, limit: &str) -> String {
    let some = |which: &str, after: &str| {
        format!(
            "(SELECT sequence, created_at, record FROM {log} WHERE is_event = {which} AND sequence > {after}
                ORDER BY sequence LIMIT {limit}::bigint + 1)"
        )
    };
    format!(
        "candidate AS MATERIALIZED (
            SELECT entry.*, row_number() OVER (ORDER BY sequence) AS nth,
                sum(octet_length(record)) OVER (ORDER BY sequence) - octet_length(record) AS before
            FROM edge, LATERAL (
                SELECT * FROM ({updates} UNION ALL {events}) AS both_origins ORDER BY sequence LIMIT {limit} + 1
            ) AS entry
        ),
        page AS (SELECT * FROM candidate WHERE nth <= {limit} AND before < {PAGE_BYTES})",
        updates = some("false", after_update),
        events = some("true", after_event),
    )
}

/// At most $7 entries that readers see after the sequence $6 of the epoch $5.
fn read(tables: &Tables) -> String {
    let after = "CASE WHEN edge.epoch = $5::bigint THEN $6::bigint ELSE 0 END";
    format!(
        "WITH {}, {}
        SELECT epoch, head, is_emptied, updates_trimmed, events_trimmed,
            (SELECT count(*) FROM candidate), page.sequence, page.record
        FROM edge LEFT JOIN page ON true ORDER BY page.sequence",
        edge(tables),
        page(
            &tables.log,
            &format!("greatest({after}, edge.updates_trimmed)"),
            &format!("greatest({after}, edge.events_trimmed)"),
            "$7"
        )
    )
}

/// At most $2 entries after the sequence $1, also such that readers do not see any more; and the time at which the entry with
/// that sequence was appended.
fn fetch(tables: &Tables) -> String {
    let Tables { meta, log, .. } = tables;
    format!(
        "WITH edge AS MATERIALIZED (SELECT meta.*, {} FROM {meta} AS meta), {}
        SELECT epoch, head, is_emptied, updates_gone_at, events_gone_at,
            coalesce((SELECT created_at FROM {log} WHERE is_event = false AND sequence = $1),
                (SELECT created_at FROM {log} WHERE is_event = true AND sequence = $1)),
            (SELECT count(*) FROM candidate), page.sequence, page.record, page.created_at
        FROM edge LEFT JOIN page ON true ORDER BY page.sequence",
        emptied(log),
        page(log, "greatest($1::bigint, edge.updates_gone_at)", "greatest($1, edge.events_gone_at)", "$2")
    )
}

/// Trims: moves the edge of what readers see, and the edge of what followers see. The second is $5 entries behind the first,
/// and not older than $6 microseconds.
fn trim(tables: &Tables) -> String {
    let Tables { meta, log, .. } = tables;
    let at = |which: &str, origin: &str| {
        format!(
            "coalesce((SELECT sequence FROM {log} AS entry WHERE entry.is_event = {which}
                AND entry.ordinal <= goal.{origin}_goal AND entry.ordinal > goal.{origin}_gone
            ORDER BY entry.ordinal DESC LIMIT 1), 0) AS {origin}_goal_at"
        )
    };
    format!(
        "WITH {edge},
        goal AS MATERIALIZED (
            SELECT edge.*,
                greatest(updates_gone, updates_edge - $5::bigint, CASE WHEN $6::bigint IS NOT NULL THEN
                    coalesce((SELECT ordinal - 1 FROM {log} AS entry
                        WHERE entry.is_event = false AND entry.ordinal > edge.updates_gone
                            AND entry.created_at >= clock_timestamp() - $6 * interval '1 microsecond'
                        ORDER BY ordinal LIMIT 1), updates) END) AS updates_goal,
                greatest(events_gone, events_edge - $5) AS events_goal
            FROM edge
        ),
        place AS MATERIALIZED (SELECT goal.*, {updates}, {events} FROM goal),
        moved AS (UPDATE {meta} AS kept SET
            updates_hidden = greatest(kept.updates_hidden, place.updates_edge),
            updates_gone = greatest(kept.updates_gone, place.updates_goal),
            updates_gone_at = greatest(kept.updates_gone_at, place.updates_goal_at),
            events_hidden = greatest(kept.events_hidden, place.events_edge),
            events_gone = greatest(kept.events_gone, place.events_goal),
            events_gone_at = greatest(kept.events_gone_at, place.events_goal_at)
        FROM place
        WHERE NOT place.is_emptied AND kept.epoch = place.epoch
            AND (place.updates_edge > kept.updates_hidden OR place.updates_goal > kept.updates_gone
                OR place.events_edge > kept.events_hidden OR place.events_goal > kept.events_gone)
        RETURNING kept.updates_gone_at, kept.events_gone_at)
        SELECT coalesce((SELECT updates_gone_at FROM moved), updates_gone_at),
            coalesce((SELECT events_gone_at FROM moved), events_gone_at), epoch
        FROM place",
        edge = edge(tables),
        updates = at("false", "updates"),
        events = at("true", "events"),
    )
}

/// Deletes at most $4 entries of the origin $1 between the sequences $2 and $3, and returns the last one. Without the lower
/// bound, the server would pass all rows that were deleted before and not vacuumed yet.
fn delete(Tables { log, .. }: &Tables) -> String {
    format!(
        "WITH deleted AS (
            DELETE FROM {log} WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM {log} WHERE is_event = $1::boolean AND sequence > $2::bigint AND sequence <= $3::bigint
                ORDER BY sequence LIMIT $4::bigint FOR UPDATE SKIP LOCKED))
            RETURNING sequence
        )
        SELECT count(*), max(sequence) FROM deleted"
    )
}

/// Begins an epoch later than $1 and $2, if the epoch is still $1. Missing entries count as trimmed. The row of meta is
/// locked already.
fn begin_epoch(Tables { meta, log, .. }: &Tables) -> String {
    let first = |column: &str, which: &str, origin: &str, otherwise: &str| {
        format!(
            "coalesce((SELECT {column} - 1 FROM {log} AS entry
                WHERE entry.is_event = {which} AND entry.ordinal > meta.{origin}_gone
                ORDER BY entry.ordinal LIMIT 1), meta.{otherwise})"
        )
    };
    let is_whole = |which: &str, origin: &str| {
        format!(
            "meta.{origin} = meta.{origin}_gone OR (SELECT ordinal FROM {log} AS entry
                WHERE entry.is_event = {which} AND entry.ordinal = meta.{origin}_gone + 1) IS NOT NULL"
        )
    };
    format!(
        "UPDATE {meta} AS meta SET
            epoch = greatest(epoch + 1, $2::bigint + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
            updates_gone = {updates_gone},
            updates_gone_at = CASE WHEN {updates_whole} THEN updates_gone_at ELSE {updates_gone_at} END,
            events_gone = {events_gone},
            events_gone_at = CASE WHEN {events_whole} THEN events_gone_at ELSE {events_gone_at} END,
            head_id = CASE WHEN EXISTS (SELECT FROM {log} AS entry WHERE entry.sequence = meta.head
                AND entry.is_event IN (false, true)) THEN head_id END
        WHERE epoch = $1::bigint",
        updates_whole = is_whole("false", "updates"),
        events_whole = is_whole("true", "events"),
        updates_gone = first("ordinal", "false", "updates", "updates"),
        updates_gone_at = first("sequence", "false", "updates", "head"),
        events_gone = first("ordinal", "true", "events", "events"),
        events_gone_at = first("sequence", "true", "events", "head"),
    )
}

/// Begins or renews the lease of the node $1, for $2 microseconds from now. Returns whether it had not ended.
fn renew(Tables { leases, .. }: &Tables) -> String {
    format!(
        "INSERT INTO {leases} AS lease (node, expires, kept)
        VALUES ($1, clock_timestamp() + $2::bigint * interval '1 microsecond', false)
        ON CONFLICT (node) DO UPDATE SET kept = lease.expires > clock_timestamp(), expires = excluded.expires
        RETURNING kept"
    )
}

/// Records facts of the node $1, if its lease has not ended (`must_run`), or if it has. For each fact: $2 active, $3
/// subscriber, $4 record, $5 hashes of its texts, as the text of an array. For each event: $6 number of its fact, $7 id, $8
/// record. Returns whether the lease was as required. The node is locked already, so each fact is compared with the facts
/// before it.
fn record(Tables { meta, log, records, leases, channel, .. }: &Tables, must_run: bool) -> String {
    let must = if must_run { "" } else { "NOT" };
    format!(
        "WITH allowed AS MATERIALIZED (
            SELECT 1 FROM {meta}
            WHERE {must} EXISTS (SELECT FROM {leases} WHERE node = $1 AND expires > clock_timestamp())
        ),
        fact AS MATERIALIZED (
            SELECT item.*,
                coalesce(lag(item.active) OVER earlier,
                    (SELECT known.number FROM {records} AS known
                        WHERE known.node = $1 AND known.subscriber = item.subscriber) IS NOT NULL
                ) AS was_active,
                lead(item.ord) OVER earlier IS NULL AS is_last
            FROM allowed, unnest($2::boolean[], $3::text[], $4::bytea[], $5::text[])
                WITH ORDINALITY AS item(active, subscriber, record, texts, ord)
            WINDOW earlier AS (PARTITION BY item.subscriber ORDER BY item.ord)
        ),
        news AS MATERIALIZED (SELECT * FROM fact WHERE active <> was_active),
        arrived AS (
            INSERT INTO {records} AS known (node, subscriber, texts, record)
            SELECT $1, subscriber, texts::integer[], record FROM fact
            WHERE is_last AND active AND subscriber IN (SELECT subscriber FROM news)
            ORDER BY ord
            ON CONFLICT (node, subscriber) DO UPDATE SET texts = excluded.texts, record = excluded.record
        ),
        departed AS (
            DELETE FROM {records} AS known USING fact
            WHERE fact.is_last AND NOT fact.active AND known.node = $1 AND known.subscriber = fact.subscriber
        ),
        event AS MATERIALIZED (
            SELECT item.id, item.record, row_number() OVER (ORDER BY item.ord) AS nth
            FROM unnest($6::bigint[], $7::bytea[], $8::bytea[]) WITH ORDINALITY AS item(fact, id, record, ord)
            JOIN news ON news.ord = item.fact
        ),
        total AS MATERIALIZED (SELECT count(*) AS count, (SELECT id FROM event ORDER BY nth DESC LIMIT 1) AS id FROM event),
        place AS (
            UPDATE {meta} SET head = head + total.count, head_id = total.id,
                head_at = greatest(head_at, clock_timestamp()), events = events + total.count
            FROM total WHERE total.count > 0
            RETURNING epoch, head AS through, head - total.count AS head, head_at, events - total.count AS events
        ),
        entry AS (
            INSERT INTO {log} (is_event, sequence, ordinal, bytes_before, created_at, id, record)
            SELECT true, place.head + event.nth, place.events + event.nth, 0, place.head_at, event.id, event.record
            FROM place, event
        )
        SELECT EXISTS (SELECT FROM allowed), (SELECT pg_notify('{channel}', epoch || ' ' || through) FROM place),
            EXISTS (SELECT FROM {meta})"
    )
}

/// Deletes the lease of the node $1, whose subscribers have been expired. So the node finds its lease ended even if the
/// server's clock is set back.
fn end_lease(Tables { leases, .. }: &Tables) -> String {
    format!("DELETE FROM {leases} WHERE node = $1 AND expires <= clock_timestamp()")
}

/// At most $3 records of nodes without a lease, in order, after the subscriber $2 of the node $1. It goes from node to node
/// in the index.
fn abandoned(Tables { records, leases, .. }: &Tables) -> String {
    format!(
        "WITH RECURSIVE node(node) AS (
            (SELECT node FROM {records} WHERE node >= $1 ORDER BY node LIMIT 1)
            UNION ALL
            SELECT (SELECT later.node FROM {records} AS later WHERE later.node > node.node ORDER BY later.node LIMIT 1)
            FROM node WHERE node.node IS NOT NULL
        )
        SELECT node.node, found.subscriber, found.number, found.record FROM node, LATERAL (
            SELECT subscriber, number, record FROM {records} AS known
            WHERE known.node = node.node AND (known.node, known.subscriber) > ($1, $2)
            ORDER BY known.subscriber LIMIT $3::bigint
        ) AS found
        WHERE node.node IS NOT NULL AND NOT EXISTS (
            SELECT FROM {leases} AS lease WHERE lease.node = node.node AND lease.expires > clock_timestamp())
        ORDER BY node.node, found.subscriber LIMIT $3"
    )
}

/// At most $3 records after the number $2, in order: all, or those with the hash $1.
fn list(Tables { records, .. }: &Tables) -> String {
    format!(
        "SELECT number, record FROM {records} WHERE ($1::integer[] IS NULL OR texts @> $1) AND number > $2
        ORDER BY number LIMIT $3::bigint"
    )
}

/// Writes a record of $1 bytes, to see whether there is room. Its number is negative and only this session uses it. The
/// caller rolls back.
fn try_room(Tables { log, .. }: &Tables) -> String {
    format!(
        "INSERT INTO {log} (is_event, sequence, ordinal, bytes_before, created_at, id, record)
        VALUES (true, -pg_backend_pid(), -pg_backend_pid(), 0, clock_timestamp(), '',
            decode(repeat('00', $1::integer), 'hex'))"
    )
}

/// Deletes leases that ended an hour ago: their subscribers have been expired.
fn forget_leases(Tables { leases, .. }: &Tables) -> String {
    format!("DELETE FROM {leases} WHERE expires < clock_timestamp() - interval '1 hour'")
}
