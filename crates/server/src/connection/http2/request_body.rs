//! The content of a request, as its handler reads it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{endpoint::ContentLost, shared::Shared};

/// The content of one request. The peer may send as much again as has been read.
pub(super) struct RequestBody {
    pub(super) shared: Shared,
    /// The stream.
    pub(super) id: u32,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = ContentLost;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ContentLost>>> {
        let content = self.shared.lock().poll_content(self.id, cx);
        content.map(|content| content.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.shared.lock().content(self.id).is_none_or(|content| content.is_read())
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.shared.lock().content(self.id).and_then(|content| content.length());
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
