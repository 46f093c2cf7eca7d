//! The shard's side of a stream that is polled.

use std::{io, sync::Arc, time::Instant};

use petasos_protocol::{
    event::EventId,
    sse::{self, Remark},
};

use super::{
    outbox::{End, Outbox},
    waiting::Waiting,
};
use crate::{
    Admission, Closed,
    fanout::{
        key::MemberKey,
        ring::{EntryNumber, Newest, Ring},
        sink::{Eviction, Tick},
    },
    interest::Interest,
    log::transport::Position,
    stream::{
        pulse::Beat,
        socket::framing::{Framing, Rendering},
        subscriber::Naming,
    },
};

/// The shard's side of an outbox. However a shard ends, the queues that it feeds end, too.
pub(crate) struct Polled {
    interest: Arc<Interest>,
    admission: Option<Admission>,
    /// Of a stream that names cursors.
    whereabouts: Option<Box<Whereabouts>>,
    outbox: Arc<Outbox>,
    /// What has no room in the outbox; `None` while everything has.
    waiting: Option<Box<Waiting>>,
    /// When something was pushed last.
    pushed_at: Instant,
}

/// What a stream says of where it is.
pub(crate) struct Whereabouts {
    pub(crate) naming: Naming,
    /// See [`Subscriber::passed`](crate::stream::subscriber::Subscriber::passed).
    pub(crate) passed: Option<Box<str>>,
}

impl Polled {
    pub(crate) fn new(
        interest: Arc<Interest>,
        admission: Option<Admission>,
        whereabouts: Option<Whereabouts>,
        outbox: Arc<Outbox>,
        silent_since: Instant,
    ) -> Self {
        let whereabouts = whereabouts.map(Box::new);
        Self { interest, admission, whereabouts, outbox, waiting: None, pushed_at: silent_since }
    }

    pub(crate) fn interest(&self) -> &Arc<Interest> {
        &self.interest
    }

    pub(crate) fn admission(&self) -> Option<Admission> {
        self.admission
    }

    /// The shard admits the member.
    ///
    /// # Errors
    /// If the reader is gone already.
    pub(crate) fn admit(&mut self, key: MemberKey) -> io::Result<()> {
        if self.outbox.admit(key) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    }

    /// Puts entries of the ring into the queue, and keeps those for which it has no room.
    pub(crate) fn push(&mut self, entries: impl Iterator<Item = EntryNumber>, ring: &Ring, now: Instant) {
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            return;
        }
        self.pushed_at = now;
        let mut kept = self.waiting.take();
        if kept.is_none() {
            let rendering = self.rendering();
            let frames = entries.by_ref().map(|entry| (entry, rendering.share(ring, entry, 0)));
            let Some((first, _)) = self.outbox.push(frames, now) else { return };
            kept.get_or_insert_default().extend(std::iter::once(first), rendering, ring);
        }
        if let Some(waiting) = &mut kept {
            waiting.extend(entries, self.rendering(), ring);
        }
        self.waiting = kept;
    }

    /// Says that the stream has everything, if it says so: in the queue, or behind what waits.
    pub(crate) fn caught_up(&mut self, ring: &Ring, after: Position, now: Instant) {
        let Some(Whereabouts { naming, passed: Some(passed) }) = self.whereabouts.as_deref() else { return };
        let newest = naming.choose(ring.newest_after(after));
        let live = sse::cursor(newest.map_or(passed, EventId::as_str), Remark::Live).event();
        let has_room =
            self.waiting.is_none() && self.outbox.push(std::iter::once(((), live.clone())), now).is_none();
        if !has_room {
            self.waiting.get_or_insert_default().push_live(live);
        }
    }

    /// Puts into the queue what it has room for now.
    pub(crate) fn flush(&mut self, ring: &Ring, now: Instant) {
        let Some(mut waiting) = self.waiting.take() else { return };
        let rendering = self.rendering();
        let frames = std::iter::from_fn(|| waiting.pop(rendering, ring));
        if let Some((part, bytes)) = self.outbox.push(frames, now) {
            waiting.put_back(part, bytes);
            self.waiting = Some(waiting);
        }
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.is_some()
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes())
    }

    pub(crate) fn oldest(&self) -> Option<EntryNumber> {
        self.waiting.as_ref()?.oldest()
    }

    /// When the reader of a stream that is behind took something last.
    pub(crate) fn last_sent(&self) -> Option<Instant> {
        self.waiting.as_ref().and_then(|_| self.outbox.taken_at())
    }

    pub(crate) fn first_due(&self) -> Option<Instant> {
        self.outbox.pulse().first_due(self.pushed_at)
    }

    /// Pushes the cursor, or a comment, if the stream has been silent. `newest`: see [`Sink::tick`](crate::fanout::sink::Sink::tick).
    pub(crate) fn tick(&mut self, newest: Newest<'_>, now: Instant) -> Tick {
        let pulse = self.outbox.pulse();
        let beat = pulse.beat(self.pushed_at, now);
        match beat {
            Beat::Over => return Tick::Over,
            Beat::Comment => {
                if !self.is_behind() {
                    let cursor = self.whereabouts.as_deref();
                    let cursor = cursor
                        .and_then(|Whereabouts { naming, passed }| naming.cursor(newest, passed.as_deref()));
                    self.outbox.push_sign(Framing::UntilClose.sign(cursor), now);
                }
                self.pushed_at = now;
            }
            Beat::None => {}
        }
        Tick::Next(pulse.next_look(beat, now))
    }

    fn rendering(&self) -> Rendering<'_> {
        let names_topics = self.whereabouts.as_ref().is_some_and(|whereabouts| whereabouts.passed.is_some());
        let topics_known = names_topics.then_some(&*self.interest);
        Rendering { framing: Framing::UntilClose, topics_known }
    }

    /// Ends the queue. A stream that is behind reads its unsent entries out of the log. One that ends takes them along.
    pub(crate) fn evict(mut self, ring: &Ring, eviction: Eviction) {
        let waiting = self.waiting.take();
        match eviction {
            Eviction::Behind(position) => self.outbox.end(std::iter::empty(), End::Behind(position)),
            Eviction::Ended(reason) => {
                let mut waiting = waiting.unwrap_or_default();
                let rest = std::iter::from_fn(|| waiting.pop(self.rendering(), ring));
                self.outbox.end(rest.map(|(_, frame)| frame), End::Closed(reason));
            }
        }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.outbox.end(std::iter::empty(), End::Closed(Closed::LogLost));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll, Wake, Waker},
        time::Duration,
    };

    use bytes::Bytes;
    use petasos_protocol::{Limits, matcher::Matcher, token::Grants};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Settings,
        fanout::fake::{at, entry},
        stream::{
            polled::outbox::{BYTES_MAX, Next, Writer},
            pulse::Rhythm,
        },
        timing::Timing,
    };

    const KEY: MemberKey = MemberKey { slot: 3, number: 7 };

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn polled(whereabouts: Option<Whereabouts>) -> (Polled, Arc<Outbox>) {
        with_rhythm(whereabouts, Rhythm { timing: None, close_at: None })
    }

    fn with_rhythm(whereabouts: Option<Whereabouts>, rhythm: Rhythm) -> (Polled, Arc<Outbox>) {
        let matcher = Matcher::selector("a", &Limits::default()).expect("valid");
        let interest = Arc::new(Interest::new(vec![matcher], Arc::new(Grants::default())));
        let outbox = Arc::new(Outbox::new(rhythm));
        (Polled::new(interest, None, whereabouts, Arc::clone(&outbox), Instant::now()), outbox)
    }

    fn multiplex() -> Whereabouts {
        Whereabouts { naming: Naming::Updates, passed: Some("first".into()) }
    }

    /// With so many entries, from number 0 and id 1 on.
    fn ring(entries: u64) -> Ring {
        let mut ring = Ring::new(at(0));
        for sequence in 1..=entries {
            ring.push(entry(sequence, "topic=a"));
        }
        ring
    }

    fn next(outbox: &Outbox) -> (Poll<Next>, Option<MemberKey>) {
        outbox.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn text(next: Next) -> String {
        let Next::Frame(frame) = next else { panic!("{next:?}") };
        String::from_utf8(frame.to_vec()).expect("UTF-8")
    }

    /// The ids of the frames that the reader takes now, and whom the shard has to be told about.
    fn take(outbox: &Outbox, count: usize) -> (Vec<String>, Vec<MemberKey>) {
        let (mut ids, mut asking) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (next, asks) = next(outbox);
            asking.extend(asks);
            let Poll::Ready(next) = next else { break };
            let text = text(next);
            let id = text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
            ids.push(if text.contains("data: live") { format!("live at {id}") } else { id.to_owned() });
        }
        (ids, asking)
    }

    fn ids(sequences: std::ops::RangeInclusive<u64>) -> Vec<String> {
        sequences.map(|sequence| sequence.to_string()).collect()
    }

    #[test]
    fn frames_come_out_in_order_and_then_the_end() {
        let (mut polled, outbox) = polled(None);
        assert_eq!(next(&outbox), (Poll::Pending, None));
        polled.push(0..2, &ring(2), Instant::now());
        polled.evict(&ring(2), Eviction::Ended(Closed::Stopping));
        assert_eq!(take(&outbox, 2), (ids(1..=2), vec![]));
        assert_eq!(next(&outbox).0, Poll::Ready(Next::End(End::Closed(Closed::Stopping))));
    }

    #[test]
    fn what_has_no_room_waits_and_the_reader_asks_once_for_it_when_half_is_taken() {
        let (now, ring) = (Instant::now(), ring(30));
        let (mut polled, outbox) = polled(None);
        assert!(polled.admit(KEY).is_ok());
        polled.push(0..8, &ring, now);
        assert!(!polled.is_behind() && polled.last_sent().is_none());
        polled.push(8..15, &ring, now);
        let length = |entry| ring.update(entry).frame().event_bytes().len();
        assert_eq!((polled.oldest(), polled.unsent_bytes()), (Some(8), (8..15).map(length).sum()));
        assert!(polled.is_behind() && polled.last_sent() == Some(now));
        assert_eq!(take(&outbox, 3), (ids(1..=3), vec![]));
        assert!(polled.last_sent() >= Some(now), "it reads");
        assert_eq!(take(&outbox, 2), (ids(4..=5), vec![KEY]));
        // Further entries come behind those that wait, though there is room for them.
        polled.push(15..20, &ring, now);
        assert_eq!((polled.oldest(), take(&outbox, 9)), (Some(8), (ids(6..=8), vec![])));
        polled.flush(&ring, now);
        assert_eq!((polled.oldest(), take(&outbox, 9)), (Some(16), (ids(9..=16), vec![KEY])));
        polled.flush(&ring, now);
        assert_eq!((polled.is_behind(), polled.unsent_bytes()), (false, 0));
        assert_eq!(take(&outbox, 9), (ids(17..=20), vec![]));
    }

    #[test]
    fn a_reader_that_made_room_before_it_was_a_member_asks_when_it_is_one() {
        let (mut polled, outbox) = polled(None);
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        polled.push(0..10, &ring(10), Instant::now());
        assert_eq!(take(&outbox, 8), (ids(1..=8), vec![]));
        let cx = &mut Context::from_waker(&waker);
        assert_eq!(outbox.poll_next(cx), (Poll::Pending, None));
        assert!(polled.admit(KEY).is_ok());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(outbox.poll_next(cx), (Poll::Pending, Some(KEY)));
        polled.flush(&ring(10), Instant::now());
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!(take(&outbox, 9), (ids(9..=10), vec![]));
    }

    #[test]
    fn a_stream_that_is_live_says_so_behind_what_waits() {
        for entries in [3, 8, 12] {
            let (now, ring) = (Instant::now(), ring(20));
            let (mut polled, outbox) = polled(Some(multiplex()));
            polled.push(0..entries, &ring, now);
            polled.caught_up(&ring, at(entries.into()), now);
            assert_eq!(polled.is_behind(), entries >= 8);
            polled.push(entries..20, &ring, now);
            let mut taken = Vec::new();
            for _ in 0..5 {
                taken.extend(take(&outbox, 100).0);
                polled.flush(&ring, now);
            }
            let mut expected = ids(1..=20);
            expected.insert(entries as usize, "live at 20".to_owned());
            assert_eq!(taken, expected);
            assert_eq!(polled.unsent_bytes(), 0);
        }
    }

    #[test]
    fn a_sign_names_the_cursor_goes_through_the_writer_and_never_before_what_waits() {
        let settings = Settings { keep_alive: Some(Duration::from_secs(10)), ..Settings::default() };
        let timing = Arc::new(Timing::new(&settings));
        let silent = |whereabouts| {
            with_rhythm(whereabouts, Rhythm { timing: Some(Arc::clone(&timing)), close_at: None })
        };
        let (began, ring) = (Instant::now(), ring(30));
        let later = began + Duration::from_secs(20);
        let (mut nothing_came, outbox) = silent(Some(multiplex()));
        assert!(matches!(nothing_came.tick(Newest::default(), later), Tick::Next(Some(_))));
        assert_eq!(take(&outbox, 9).0, ["first"]);
        let (mut current, outbox) = silent(Some(multiplex()));
        current.tick(ring.newest(), later);
        assert_eq!(take(&outbox, 9).0, ["30"]);
        let (mut written, outbox) = silent(None);
        let room = Arc::new(AtomicUsize::new(1));
        outbox.write_through(|| Box::new(Taker(Arc::clone(&room))));
        written.tick(ring.newest(), later);
        assert_eq!((room.load(Ordering::Relaxed), next(&outbox).0), (0, Poll::Pending));
        // Its reader has made room, and what waits comes before any sign.
        let (mut late, outbox) = silent(None);
        late.push(0..20, &ring, began);
        assert_eq!(take(&outbox, 8).0, ids(1..=8));
        late.tick(ring.newest(), later);
        assert_eq!(next(&outbox).0, Poll::Pending);
    }

    #[test]
    fn a_stream_that_is_too_late_goes_on_in_the_log_and_one_that_ends_takes_what_waits_along() {
        let ring = ring(30);
        let late = || {
            let (mut polled, outbox) = polled(None);
            polled.push(0..20, &ring, Instant::now());
            (polled, outbox)
        };
        let (polled, outbox) = late();
        let position = ring.before(polled.oldest().expect("one waits"));
        polled.evict(&ring, Eviction::Behind(position));
        assert_eq!(take(&outbox, 8), (ids(1..=8), vec![]));
        assert_eq!(next(&outbox), (Poll::Ready(Next::End(End::Behind(at(8)))), None));
        let (polled, outbox) = late();
        polled.evict(&ring, Eviction::Ended(Closed::Drained));
        assert_eq!(take(&outbox, 20), (ids(1..=20), vec![]));
        assert_eq!(next(&outbox), (Poll::Ready(Next::End(End::Closed(Closed::Drained))), None));
    }

    /// Takes so many frames.
    struct Taker(Arc<AtomicUsize>);

    impl Writer for Taker {
        fn write(&mut self, frames: &mut VecDeque<Bytes>) -> usize {
            let count = self.0.load(Ordering::Relaxed).min(frames.len());
            self.0.fetch_sub(count, Ordering::Relaxed);
            frames.drain(..count).map(|frame| frame.len()).sum()
        }
    }

    #[test]
    fn what_a_writer_leaves_goes_to_the_reader_and_nothing_else_wakes_it() {
        let (ring, now) = (ring(60), Instant::now());
        let (mut polled, outbox) = polled(None);
        let room = Arc::new(AtomicUsize::new(2));
        outbox.write_through(|| Box::new(Taker(Arc::clone(&room))));
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        assert!(outbox.poll_next(&mut Context::from_waker(&waker)).0.is_pending());
        polled.push(0..1, &ring, now);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        polled.push(1..3, &ring, now);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(take(&outbox, 9), (ids(3..=3), vec![]));
        // It makes room for more than the queue holds.
        room.store(20, Ordering::Relaxed);
        polled.push(3..40, &ring, now);
        assert_eq!((polled.oldest(), polled.last_sent()), (Some(31), Some(now)));
        // And takes nothing out of the middle.
        room.store(2, Ordering::Relaxed);
        polled.push(40..41, &ring, now);
        assert_eq!(take(&outbox, 2), (ids(24..=25), vec![]));
        polled.flush(&ring, now);
        assert_eq!(take(&outbox, 9), (ids(28..=35), vec![]));
        outbox.abandon();
        assert_eq!(Arc::strong_count(&room), 1, "what the writer holds is free");
    }

    #[test]
    fn bytes_are_bounded() {
        let mut ring = Ring::new(at(0));
        for sequence in 1..=2 {
            ring.push(entry(sequence, &format!("topic=a&data={}", "x".repeat(BYTES_MAX / 2))));
        }
        let (mut polled, outbox) = polled(None);
        assert!(polled.admit(KEY).is_ok());
        polled.push(0..2, &ring, Instant::now());
        assert_eq!(polled.oldest(), Some(1));
        assert_eq!(take(&outbox, 1), (ids(1..=1), vec![KEY]));
        polled.flush(&ring, Instant::now());
        assert_eq!(take(&outbox, 9), (ids(2..=2), vec![]));
    }

    proptest! {
        /// The shard and the reader do what they do in any order; the reader does nothing unless it has been woken.
        #[test]
        fn whatever_comes_first_everything_comes_once_in_order_and_nobody_waits_for_ever(
            steps in prop::collection::vec((0..4_u8, 1..20_u32), 1..60),
            admitted_at in 0..60_usize,
            live in any::<bool>(),
            room in prop::option::of(0..50_usize),
        ) {
            let (now, ring) = (Instant::now(), ring(2_000));
            let (mut polled, outbox) = polled(live.then(multiplex));
            let woken = Arc::new(Woken(AtomicUsize::new(1)));
            let waker = Waker::from(Arc::clone(&woken));
            let written = Arc::<AtomicUsize>::default();
            if let Some(room) = room {
                written.store(room, Ordering::Relaxed);
                outbox.write_through(|| Box::new(Taker(Arc::clone(&written))));
            }
            let (mut pushed, mut taken, mut asking) = (0, Vec::new(), 0);
            let mut read = |count: u32, asking: &mut i32| {
                for _ in 0..count {
                    if woken.0.load(Ordering::Relaxed) == 0 {
                        break;
                    }
                    let (next, asks) = outbox.poll_next(&mut Context::from_waker(&waker));
                    *asking += i32::from(asks.is_some());
                    match next {
                        Poll::Pending => woken.0.store(0, Ordering::Relaxed),
                        Poll::Ready(next) => taken.push(text(next)),
                    }
                }
            };
            for (at_step, (what, count)) in steps.iter().enumerate() {
                if at_step == admitted_at {
                    polled.caught_up(&ring, at(pushed.into()), now);
                    prop_assert!(polled.admit(KEY).is_ok());
                }
                match what {
                    0 | 1 => {
                        polled.push(pushed..pushed + count, &ring, now);
                        pushed += count;
                    }
                    2 => read(*count, &mut asking),
                    _ if asking > 0 => {
                        asking = 0;
                        polled.flush(&ring, now);
                    }
                    _ => {}
                }
                prop_assert!(asking <= 1, "once");
            }
            if admitted_at >= steps.len() {
                prop_assert!(polled.admit(KEY).is_ok());
            }
            while woken.0.load(Ordering::Relaxed) > 0 || asking > 0 {
                read(3, &mut asking);
                if asking > 0 {
                    asking = 0;
                    polled.flush(&ring, now);
                }
            }
            prop_assert!(!polled.is_behind() && polled.unsent_bytes() == 0);
            let is_said = usize::from(live && admitted_at < steps.len());
            let lost = room.map_or(0, |room| room - written.load(Ordering::Relaxed));
            prop_assert_eq!(taken.len() + lost, pushed as usize + is_said);
            let id = |text: &String| text.lines().find_map(|line| line.strip_prefix("id: ")?.parse::<u64>().ok());
            let came: Vec<_> = taken.iter().filter(|text| !text.contains("data: live")).filter_map(id).collect();
            prop_assert!(came.is_sorted() && came.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
