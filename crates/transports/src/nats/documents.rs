//! The documents: a stream that keeps the last message of each subject, made when the first document is stored.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use petasos_hub::{
    TransportError,
    documents::{Document, Documents, Version, check, check_name},
};

use super::{failure::codes, log::Log, settled::Settled, write::Write};
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
        let settled = Settled::new(streams.documents.clone(), streams.document_subject(MARK));
        Ok(settled.end(link, write).await?.map(Version))
    }
}

/// No document has such a name.
const MARK: &str = "-mark";
