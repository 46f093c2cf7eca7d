//! What is encoded is read back by an independent parser of event streams (HTML Standard, "Interpreting an event
//! stream"), and nothing in it becomes another field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use petasos_protocol::{Limits, event::EventId, request, topic::HubUrl, update::Update};

#[derive(Default, Debug, PartialEq)]
struct Event {
    id: Option<String>,
    kind: Option<String>,
    retry: Option<String>,
    data: Vec<String>,
}

fuzz_target!(|body: &[u8]| {
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
});

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
