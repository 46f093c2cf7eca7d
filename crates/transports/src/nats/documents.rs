//! The documents: a stream that keeps the last message of each subject, made when the first document is stored.
//!
//! The leader of a stream with replicas looks at the last message of a subject before it proposes another one, and not again when the
//! replicas have agreed. So of several that come together more than one may be stored. The last of them counts: whoever has stored
//! one waits until all are stored that were proposed before, and looks which is the last.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use petasos_hub::{
    TransportError,
    documents::{Document, Documents, Version, check, check_name},
};

use super::{
    failure::{Failure, codes},
    log::Log,
    write::Write,
};
use crate::OpenError;

/// The documents beside a log.
pub(super) struct SharedDocuments {
    pub(super) log: Arc<Log>,
}

#[async_trait]
impl Documents for SharedDocuments {
    async fn load(&self, name: &str) -> Result<Option<Document>, TransportError> {
        check_name(name)?;
        let Log { link, streams, .. } = &*self.log;
        match link.last(&streams.documents, &streams.document_subject(name)).await {
            Err(failure) if failure.is(codes::STREAM_NOT_FOUND) => Ok(None),
            kept => {
                Ok(kept?.map(|kept| Document { bytes: kept.payload.to_vec(), version: Version(kept.seq) }))
            }
        }
    }

    async fn store(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<Version>,
    ) -> Result<Option<Version>, TransportError> {
        check(name, bytes)?;
        let Log { link, streams, .. } = &*self.log;
        streams.ensure_documents(link).await.map_err(|error| match error {
            OpenError::Transport(error) => error,
            other => TransportError::unavailable(other),
        })?;
        let expected = expected.map_or(0, |version| version.0);
        let (subject, payload) = (streams.document_subject(name), Bytes::copy_from_slice(bytes));
        let write = Write::begin(link, &subject, expected, None, payload, link.attempts()).await;
        let Some(seq) = write.end(link).await? else { return Ok(None) };
        self.wait_for_others().await?;
        let last = link.last(&streams.documents, &subject).await?;
        Ok(last.filter(|last| last.seq == seq).map(|last| Version(last.seq)))
    }
}

impl SharedDocuments {
    /// Returns when everything is stored that the leader has proposed: messages are stored in the order of their proposals, and this
    /// one comes behind them.
    async fn wait_for_others(&self) -> Result<(), Failure> {
        let Log { link, streams, .. } = &*self.log;
        let (subject, attempts) = (streams.document_subject(LAST), link.attempts());
        loop {
            let sent = link.publish(&subject, HeaderMap::new(), Bytes::new(), &attempts).await;
            let stored = match sent {
                Ok(sent) => link.published(sent).await,
                Err(failure) => Err(failure),
            };
            match stored {
                Err(failure) if attempts.go_on(&failure) => {}
                stored => return stored.map(drop),
            }
        }
    }
}

/// No document has such a name.
const LAST: &str = "-last";
