//! The documents: one hash, with two fields for each.

use std::sync::Arc;

use ::redis::{Value, cmd};
use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    documents::{Document, Documents, Version, check, check_name},
};

use super::{
    failure::Failure,
    link::Link,
    script::{DOCUMENT, unexpected},
};

/// The documents beside a log.
pub(super) struct SharedDocuments {
    pub(super) link: Arc<Link>,
}

#[async_trait]
impl Documents for SharedDocuments {
    async fn load(&self, name: &str) -> Result<Option<Document>, TransportError> {
        check_name(name)?;
        let mut command = cmd("HMGET");
        command.arg(self.key()).arg(format!("version:{name}")).arg(format!("bytes:{name}"));
        let answer = self
            .link
            .ask(async |mut connection| Ok(command.query_async::<Value>(&mut connection).await?))
            .await?;
        let Value::Array(parts) = answer else { return Err(unexpected().into()) };
        match &parts[..] {
            [version @ Value::BulkString(_), Value::BulkString(bytes)] => {
                Ok(Some(Document { bytes: bytes.clone(), version: parse(version)? }))
            }
            _ => Ok(None),
        }
    }

    async fn store(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<Version>,
    ) -> Result<Option<Version>, TransportError> {
        check(name, bytes)?;
        let expected = expected.map(|version| version.0.to_string()).unwrap_or_default();
        let mut invocation = DOCUMENT.key(self.key());
        invocation.arg(name).arg(expected).arg(bytes);
        let answer = self
            .link
            .ask(async |mut connection| Ok(invocation.invoke_async::<Value>(&mut connection).await?))
            .await?;
        match answer {
            Value::Nil => Ok(None),
            version => Ok(Some(parse(&version)?)),
        }
    }
}

impl SharedDocuments {
    fn key(&self) -> String {
        self.link.settings.key("documents")
    }
}

fn parse(version: &Value) -> Result<Version, Failure> {
    let Value::BulkString(text) = version else { return Err(unexpected()) };
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.map(Version).ok_or_else(unexpected)
}
