//! What the server's settings mean for a log: settings with which nothing works are refused, settings that lose updates are
//! logged.

use std::collections::HashMap;

use ::redis::{aio::MultiplexedConnection, cmd};

use crate::OpenError;

/// Before 6.2 a stream cannot be trimmed by position.
const VERSION_MIN: (u32, u32) = (6, 2);

/// Reads the settings of the server. A user without that permission learns nothing.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<(), OpenError> {
    let Ok(info) = cmd("INFO").query_async::<String>(connection).await else {
        tracing::info!("the user of Redis may not use INFO: its version and settings are not checked");
        return Ok(());
    };
    // Managed servers often have no CONFIG.
    let fsync = cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await;
    let fsync = fsync.ok().and_then(|mut pairs: HashMap<String, String>| pairs.remove("appendfsync"));
    let info = Info::parse(&info);
    if let Some(version) = info.version_too_old() {
        return Err(OpenError::Refused(format!(
            "this is Redis {version}: the log needs {}.{} or later, or Valkey",
            VERSION_MIN.0, VERSION_MIN.1
        )));
    }
    if fsync.as_deref() == Some("everysec") {
        // Its write, too, waits for an earlier one to reach the disk, and the answer does not wait for either.
        tracing::info!(
            "Redis writes its append-only file every second: a crash may lose what was acknowledged in the last two; \
             \"appendfsync always\" loses nothing, and is slower"
        );
    }
    for (fact, advice) in info.losses(fsync.as_deref()) {
        tracing::warn!("{fact}: {advice}");
    }
    Ok(())
}

struct Info<'a>(HashMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(':')).collect())
    }

    fn version_too_old(&self) -> Option<&'a str> {
        let version = self.0.get("redis_version")?;
        let mut parts = version.split('.').map(|part| part.parse().ok());
        let parsed = (parts.next()??, parts.next()??);
        (parsed < VERSION_MIN && !self.0.contains_key("valkey_version")).then_some(version)
    }

    /// What may get lost, and what to do about it.
    fn losses(&self, fsync: Option<&str>) -> Vec<(&'static str, &'static str)> {
        let is = |field: &str, value: &str| self.0.get(field) == Some(&value);
        let mut losses = Vec::new();
        if is("aof_enabled", "0") {
            losses.push((
                "Redis keeps no append-only file",
                "when it ends, updates that were acknowledged are lost, all since its last snapshot; set \"appendonly yes\"",
            ));
        } else if fsync == Some("no") {
            losses.push((
                "Redis leaves writing its append-only file to the system",
                "a power failure may lose updates of half a minute; set \"appendfsync everysec\" or \"always\"",
            ));
        }
        let evicts = self.0.get("maxmemory_policy").is_some_and(|policy| policy.starts_with("allkeys-"));
        if evicts && !is("maxmemory", "0") {
            losses.push((
                "Redis evicts keys of any kind when its memory is full",
                "that may be the log, which is then begun anew; set \"maxmemory-policy noeviction\"",
            ));
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_lose_updates_are_named() {
        let losses = |text, fsync| Info::parse(text).losses(fsync).len();
        assert_eq!(
            losses("aof_enabled:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n", Some("everysec")),
            0
        );
        assert_eq!(losses("aof_enabled:0\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n", None), 2);
        assert_eq!(losses("aof_enabled:1\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", Some("no")), 1);
        assert_eq!(
            losses("aof_enabled:1\r\nmaxmemory:9\r\nmaxmemory_policy:volatile-lru\r\n", Some("always")),
            0
        );
    }

    #[test]
    fn old_servers_are_refused() {
        let too_old = |text| Info::parse(text).version_too_old();
        assert_eq!(too_old("redis_version:6.0.16\r\n"), Some("6.0.16"));
        assert_eq!(too_old("redis_version:6.2.0\r\n"), None);
        assert_eq!(too_old("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n"), None);
        assert_eq!(too_old("# Server\r\n"), None);
    }
}
