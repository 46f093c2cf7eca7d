//! What the fuzz targets assert: each function takes any input and panics if a rule of this crate does not hold for it.
//!
//! Compiled by `cargo fuzz` and by this crate's tests only, which give the functions the committed corpus.

use crate::{
    Dialect, Limits,
    event::EventId,
    legacy,
    matcher::{Matcher, MatcherType},
    request::{self, Cursor, Form, Part, SubscribeRequest},
    token::{Claims, Unverified, details},
    topic::{HubUrl, Topic},
    update::Update,
};

/// A name, which is also that of a folder of the corpus, and what is given its inputs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of this crate.
pub const TARGETS: &[Target] = &[
    ("cursor", cursor),
    ("form", form),
    ("matcher", matcher),
    ("query", query),
    ("sse", sse),
    ("token", token),
    ("topic", topic),
];

/// Any values of cursors, one a line, are one cursor within the limits, or refused.
pub fn cursor(input: &[u8]) {
    let limits = Limits::default();
    let Ok(text) = std::str::from_utf8(input) else { return };
    let values: Vec<&str> = text.lines().collect();
    match Cursor::newest(values.iter().copied(), &limits) {
        Ok(None) => assert!(values.is_empty()),
        Ok(Some(Cursor::AfterNewest(ids))) => {
            assert!((2..=limits.cursors_max).contains(&ids.len()));
            assert!(
                ids.iter().all(|id| values.contains(&&**id) && !id.is_empty() && **id != *Cursor::EARLIEST)
            );
        }
        Ok(Some(Cursor::After(id))) => {
            let others = ["", Cursor::EARLIEST, &*id];
            assert!(values.iter().all(|value| others.contains(value)));
        }
        Ok(Some(Cursor::Earliest)) => assert!(values.contains(&Cursor::EARLIEST)),
        Ok(Some(Cursor::Blank)) => assert!(values.iter().all(|value| value.is_empty())),
        Err(_) => assert!(values.len() > limits.cursors_max),
    }
}

/// Any body is a publish request within its limits, or refused.
pub fn form(body: &[u8]) {
    let limits = Limits::default();
    if let Ok(draft) = request::publish(body, &HubUrl::default(), &limits) {
        assert!((1..=limits.topics_max).contains(&draft.topics.iter().len()));
        assert!(draft.topics.iter().all(|topic| topic.as_str().len() <= limits.topic_bytes_max));
        assert!(draft.id.is_none_or(|id| !id.as_str().starts_with('#') && id.as_str() != "earliest"));
    }
}

/// Matcher and topic on two lines: whatever parses can be asked about whatever topic.
pub fn matcher(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (text, topic) = input.split_once('\n').unwrap_or((input, "https://example.com/a"));
    let (hub, limits) = (HubUrl::default(), Limits::default());
    let asked = Topic::unchecked(topic, &hub);
    let itself = Topic::unchecked(text, &hub);
    if let Ok(selector) = Matcher::selector(text, &limits) {
        assert!(selector.matches(&itself));
        selector.matches(&asked);
    }
    if let Ok(exact) = Matcher::parse(MatcherType::Exact, text, &hub, &limits) {
        assert_eq!(exact.matches(&asked), text == "*" || text == topic);
    }
    if let Ok(pattern) = Matcher::parse(MatcherType::UrlPattern, text, &hub, &limits) {
        // What is no URL reference is matched by nothing but the wildcard.
        assert!(!pattern.matches(&asked) || text == "*" || asked.url().is_some());
    }
}

/// Any query is a subscribe request of one dialect within its limits, or refused; without compat, it is 1.0.
pub fn query(query: &[u8]) {
    let limits = Limits::default();
    let Ok(form) = Form::parse(query, Part::Query, &limits) else { return };
    for compat in [false, true] {
        let Ok(request) = SubscribeRequest::parse(&form, &[], compat, &HubUrl::default(), &limits) else {
            continue;
        };
        assert!(compat || request.dialect == Dialect::V1);
        assert!((1..=limits.matchers_max).contains(&request.matchers.len()));
        for matcher in &request.matchers {
            assert!(!matcher.as_str().chars().any(char::is_control));
            assert!(matcher.matcher_type().is_some() || request.dialect == Dialect::Legacy);
        }
    }
}

/// What is encoded is read back by an independent parser of event streams (HTML Standard, "Interpreting an event
/// stream"), and nothing in it becomes another field.
pub fn sse(body: &[u8]) {
    let Ok(draft) = request::publish(body, &HubUrl::default(), &Limits::default()) else { return };
    let expected = Event {
        id: Some(draft.id.as_ref().map_or("urn:uuid:u".to_owned(), |id| id.as_str().to_owned())),
        kind: draft.event_type.as_ref().map(|kind| kind.as_str().to_owned()),
        retry: draft.retry.map(|retry| retry.millis().to_string()),
        data: draft.data.replace("\r\n", "\n").replace('\r', "\n").split('\n').map(str::to_owned).collect(),
    };
    let update = Update::publish(draft, || EventId::from_uuid("u"));
    let event = update.frame().event();
    let text = std::str::from_utf8(&event).expect("UTF-8");
    assert_eq!(parse(text), [expected]);
}

/// Any token and any claims are read or refused.
pub fn token(input: &[u8]) {
    let limits = Limits::default();
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(token) = Unverified::parse(text, &limits)
    {
        let _ = (token.claimed_issuer(), token.key_id(), token.require_access_token());
        let _ = token.verify(|_, _| Ok(()));
    }
    let Ok(claims) = Claims::from_json(input) else { return };
    let _ = claims.check_lifetime(1e9);
    let _ = claims.check_party("https://a.example", "https://hub.example/m");
    let _ = legacy::grants(&claims, true, &limits);
    if let Ok(grants) = details::grants(&claims, &HubUrl::default(), &limits) {
        assert!(grants.publish.len().max(grants.subscribe.len()) <= limits.token_matchers_max);
    }
}

/// No accepted topic lies in the hub's namespace by a second, naive reading of its path.
pub fn topic(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let hub = HubUrl::default();
    let Ok(topic) = Topic::parse(text, &hub, &Limits::default()) else { return };
    assert_ne!(text, "*");
    assert!(!text.chars().any(char::is_control));
    let Some(url) = topic.url() else { return };
    let path = decode(url.path());
    let reserved = path == hub.path() || path.starts_with(&format!("{}/", hub.path()));
    assert!(!reserved, "{path}");
}

/// An event as an independent parser reads it.
#[derive(Default, Debug, PartialEq)]
struct Event {
    id: Option<String>,
    kind: Option<String>,
    retry: Option<String>,
    data: Vec<String>,
}

fn parse(stream: &str) -> Vec<Event> {
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut event) = (Vec::new(), Event::default());
    for line in stream.strip_suffix('\n').expect("a whole event").split('\n') {
        if line.is_empty() {
            events.push(std::mem::take(&mut event));
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "id" => event.id = Some(value),
            "event" => event.kind = Some(value),
            "retry" => event.retry = Some(value),
            "data" => event.data.push(value),
            other => panic!("{other:?} is no field that is written"),
        }
    }
    assert_eq!(event, Event::default());
    events
}

/// Decodes, in one pass, the octets that may stand unescaped anywhere.
fn decode(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let octet = tail.get(..2).and_then(|digits| {
            let hex = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(digits).ok().filter(|_| hex && *first == b'%')?;
            u8::from_str_radix(text, 16).ok()
        });
        match octet {
            Some(octet) if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) => {
                decoded.push(octet);
                rest = &rest[3..];
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).expect("ASCII was decoded")
}

#[cfg(test)]
#[path = "../../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{TARGETS, corpus::every_input_passes};

    #[test]
    fn every_input_of_the_corpus_passes() {
        every_input_passes(TARGETS);
    }
}
