//! What the socket of a live stream has not taken.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf as _, Bytes};

use super::{
    framing::{Framing, Rendering},
    write::SLICES_MAX,
};
use crate::{
    fanout::ring::{EntryNumber, Ring},
    stream::topics::Rendered,
};

/// What a socket has not taken: the rest of what has been begun, then entries of the shard's ring.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) begun: Bytes,
    pub(crate) entries: VecDeque<EntryNumber>,
    /// What stands between the entries, behind so many of them: that the stream has everything before it.
    pub(crate) live: Option<Box<(usize, Bytes)>>,
    /// The bytes of all of these.
    pub(crate) bytes: usize,
}

impl Waiting {
    /// Removes what has been written. True: nothing is left.
    pub(crate) fn advance(&mut self, mut written: usize, rendering: Rendering<'_>, ring: &Ring) -> bool {
        self.bytes -= written;
        if written < self.begun.len() {
            self.begun.advance(written);
            return false;
        }
        written -= self.begun.len();
        self.begun = Bytes::new();
        loop {
            if let Some((_, live)) = self.live.take_if(|live| live.0 == 0).map(|live| *live) {
                if written < live.len() {
                    self.begun = live.slice(written..);
                    return false;
                }
                written -= live.len();
            }
            let Some(entry) = self.entries.front() else { return true };
            let length = rendering.length(ring, *entry);
            if written == 0 {
                return false;
            }
            if written < length {
                self.begun = rendering.share(ring, *entry, written);
            }
            self.entries.pop_front();
            if let Some(live) = &mut self.live {
                live.0 -= 1;
            }
            if written < length {
                return false;
            }
            written -= length;
        }
    }

    /// The entries of the next write.
    pub(crate) fn render<'ring>(&self, rendering: Rendering<'_>, ring: &'ring Ring) -> Vec<Rendered<'ring>> {
        self.entries.iter().take(SLICES_MAX).map(|entry| rendering.render(ring, *entry)).collect()
    }

    /// The next write. `rendered`: the entries of [`Waiting::render`].
    pub(crate) fn slices<'a>(&'a self, framing: Framing, rendered: &'a [Rendered<'_>]) -> Vec<IoSlice<'a>> {
        let before = self.live.as_ref().map_or(usize::MAX, |live| live.0);
        let (before, after) = rendered.split_at(before.min(rendered.len()));
        let begun = (!self.begun.is_empty()).then(|| IoSlice::new(&self.begun));
        let live = self.live.as_ref().map(|live| IoSlice::new(&live.1));
        let parts =
            begun.into_iter().chain(pieces(framing, before)).chain(live).chain(pieces(framing, after));
        parts.take(SLICES_MAX).collect()
    }
}

/// The bytes of entries, each in one piece or two.
pub(crate) fn pieces<'a>(
    framing: Framing,
    rendered: &'a [Rendered<'_>],
) -> impl Iterator<Item = IoSlice<'a>> {
    rendered.iter().flat_map(move |rendered| {
        let lines = rendered.lines().map(|lines| IoSlice::new(framing.bytes(lines)));
        lines.into_iter().chain([IoSlice::new(framing.bytes(rendered.frame()))])
    })
}

pub(crate) fn bytes(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{Limits, matcher::Matcher, token::Grants};
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::*;
    use crate::{
        fanout::fake::{at, entry},
        interest::Interest,
    };

    fn interest() -> Interest {
        let parse = |text: &str| Matcher::selector(text, &Limits::default()).expect("valid");
        let grants = Grants { subscribe: vec![parse("a")], ..Grants::default() };
        Interest::new(vec![parse("*")], Arc::new(grants))
    }

    /// Public ones, and private ones of whose topics one may be known.
    fn ring(entries: usize) -> Ring {
        let mut ring = Ring::new(at(0));
        for sequence in 1..=entries as u64 {
            let private = if sequence % 3 == 0 { "&private=on" } else { "" };
            // Those that are short are one piece with their topics.
            let data = if sequence % 5 == 0 { "x".repeat(5_000) } else { sequence.to_string() };
            ring.push(entry(sequence, &format!("topic=a&topic=hidden&data={data}{private}")));
        }
        ring
    }

    proptest! {
        #[test]
        fn whatever_a_socket_takes_at_once_all_bytes_go_out_in_order(
            entries in 0..300_usize,
            live in prop::option::of(0..300_usize),
            names_topics in any::<bool>(),
            chunked in any::<bool>(),
            writes in prop::collection::vec(1..2_000_usize, 1..40),
        ) {
            let (ring, interest) = (ring(entries), interest());
            let framing = if chunked { Framing::Chunked } else { Framing::UntilClose };
            let rendering = Rendering { framing, topics_known: names_topics.then_some(&interest) };
            let (begun, live) = (Bytes::from("begun"), live.map(|live| live.min(entries)));
            let mut expected = begun.to_vec();
            let mut waiting = Waiting { bytes: begun.len(), begun, ..Waiting::default() };
            for number in 0..=entries {
                if live == Some(number) {
                    waiting.live = Some(Box::new((number, Bytes::from("live"))));
                    waiting.bytes += 4;
                    expected.extend(b"live");
                }
                if number < entries {
                    let entry = number as EntryNumber;
                    waiting.entries.push_back(entry);
                    waiting.bytes += rendering.length(&ring, entry);
                    expected.extend(rendering.share(&ring, entry, 0));
                }
            }
            prop_assert_eq!(waiting.bytes, expected.len());
            let (mut written, mut writes) = (Vec::new(), writes.into_iter().cycle());
            let mut is_over = false;
            while !is_over {
                let rendered = waiting.render(rendering, &ring);
                let slices = waiting.slices(framing, &rendered);
                let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                drop(slices);
                drop(rendered);
                let taken = writes.next().expect("a cycle").min(offered.len());
                written.extend(&offered[..taken]);
                is_over = waiting.advance(taken, rendering, &ring);
                prop_assert_eq!(waiting.bytes, expected.len() - written.len());
                prop_assert!(is_over || taken > 0);
            }
            let text = String::from_utf8(written.clone()).expect("UTF-8");
            prop_assert!(written == expected, "{}", text);
            let named = text.matches("topic: a\n").count();
            prop_assert_eq!(named, if names_topics { entries } else { 0 });
            prop_assert_eq!(text.matches("topic: hidden\n").count(), if names_topics { entries - entries / 3 } else { 0 });
        }
    }
}
