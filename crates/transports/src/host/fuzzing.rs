//! The messages between processes, for the fuzz targets of this crate.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use petasos_protocol::topic::HubUrl;

use super::message::{Answer, Request, frame, parse, read};
use crate::shared::decoder::Decoder;

/// See [`crate::fuzzing::message`].
pub(crate) fn message(input: &[u8]) {
    if let Ok(request) = parse::<Request<'_>>(input) {
        let again = framed(&frame(7, &request));
        let request = parse::<Request<'_>>(&again).expect("its own message");
        assert_eq!(framed(&frame(7, &request)), again);
    }
    if let Ok(answer) = parse::<Answer<'_>>(input) {
        let again = framed(&frame(7, &answer));
        let decoder = Decoder::new("a log", HubUrl::default());
        parse::<Answer<'_>>(&again).expect("its own message").into_page(&decoder);
        answer.into_head();
    }
}

/// The message of a frame, as the other process reads it.
fn framed(frame: &[u8]) -> Vec<u8> {
    let mut from = frame;
    let read = pin!(read(&mut from));
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => {
            let (number, message) = read.expect("a frame");
            assert_eq!(number, 7);
            message
        }
        Poll::Pending => panic!("all of it is there"),
    }
}
