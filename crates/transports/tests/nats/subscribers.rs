//! Subscribers that are too large, expire, or whose events fail in the middle of a batch.

use super::*;

fn fact(number: u128, active: bool) -> Fact {
    fact_with(number, active, &[0])
}

/// Of a subscriber with a subscription for each payload, of so many bytes.
fn fact_with(number: u128, active: bool, payloads: &[usize]) -> Fact {
    let subscriber = SubscriberId::from_uuid(number);
    let subscription = |(at, length): (usize, &usize)| {
        let text = (*length > 0).then(|| format!("\"{}\"", "x".repeat(*length)));
        let payload = text.map(|text| RawValue::from_string(text).expect("JSON").into());
        let matcher = MatcherText::new(MatcherType::Exact, format!("topic{at}"));
        Subscription { dialect: Dialect::V1, matcher, subscriber, payload }
    };
    let subscriptions: Arc<[_]> = payloads.iter().enumerate().map(subscription).collect();
    let event = |subscription: &Subscription| {
        let id = EventId::from_uuid(&uuid::Uuid::new_v4().to_string());
        Update::announce(subscription, active, &HubUrl::default(), None, id)
    };
    let events = subscriptions.iter().map(event).collect();
    Fact { subscriber, active, subscriptions, events }
}

fn told(fact: &Fact) -> Vec<&str> {
    fact.events.iter().map(|event| event.id().as_str()).collect()
}

/// How many subscriptions there are.
async fn listed(registry: &dyn Registry) -> usize {
    registry.list(None).await.expect("list").len()
}

async fn abandoned(registry: &dyn Registry) -> usize {
    registry.abandoned(1_000).await.expect("abandoned").len()
}

/// The node that expires a subscriber dies after it has written the departing record, before or after the event.
#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_was_broken_off_is_finished() {
    let server = nats("");
    let log = open_log(&url(&server), 100).await;
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    registry.record(node, &[fact(1, true), fact(2, true)]).await.expect("record");
    registry.resign(node).await.expect("resign");
    // As expiring writes it.
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port)).await.expect("connect");
    for number in [1, 2] {
        let subject = format!("mercure.subscribers.{node}.{number:032x}");
        let request = json!({"last_by_subj": subject});
        let found = api(&server, "STREAM.MSG.GET.mercure+subscribers", &request).await;
        let since = found["message"]["seq"].as_u64().expect("a sequence");
        let data = found["message"]["data"].as_str().expect("data");
        let present = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data).expect("base64");
        // The event as the log keeps it: one that the log already has, as encoding is not public.
        let source = json!({"seq": number});
        let event = api(&server, "STREAM.MSG.GET.mercure", &source).await;
        let event = event["message"]["data"].as_str().expect("data").to_owned();
        let event = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, event).expect("base64");
        let mut departing = vec![b'-'];
        departing.extend_from_slice(&since.to_le_bytes());
        for part in [&present, &event] {
            departing.extend_from_slice(&(part.len() as u32).to_le_bytes());
            departing.extend_from_slice(part);
        }
        client.request(subject, departing.into()).await.expect("an answer");
        if number == 2 {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("{node}.{number:032x}.{since}.0"));
            client.request_with_headers("mercure.events", headers, event.into()).await.expect("an answer");
        }
    }
    assert_eq!(registry.list(None).await.expect("list").len(), 0, "they depart");
    assert_eq!(abandoned(registry).await, 2);
    registry.expire(node, &[fact(1, false), fact(2, false)]).await.expect("expire");
    assert_eq!(abandoned(registry).await, 0);
    assert_eq!(kept(&*log).await.len(), 4, "each departure is told once");
    // Subscriber 2 departs again, and its node comes back: it finishes the departure and tells an arrival.
    registry.renew(node).await.expect("renew");
    let again = fact(2, true);
    registry.record(node, std::slice::from_ref(&again)).await.expect("record");
    assert_eq!(names(&kept(&*log).await).last(), Some(&again.events[0].id().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_larger_than_the_server_takes_is_left_out() {
    let server = nats("max_payload: 10000");
    let log = open_log(&url(&server), 100).await;
    leaves_out(&*log, 9_600).await;
    // The same bound for a stream alone.
    let server = nats("");
    let log = open_log(&url(&server), 100).await;
    for stream in ["mercure", "mercure+subscribers"] {
        let mut config = api(&server, &format!("STREAM.INFO.{stream}"), &Value::Null).await["config"].take();
        config["max_msg_size"] = 10_000.into();
        let updated = api(&server, &format!("STREAM.UPDATE.{stream}"), &config).await;
        assert!(updated["error"].is_null(), "{updated}");
    }
    leaves_out(&*log, 9_600).await;
}

/// `nearly`: the bytes of a payload with which a record fits, but not its event.
async fn leaves_out(log: &dyn Transport, nearly: usize) {
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let arrivals =
        [fact(1, true), fact_with(2, true, &[20_000]), fact_with(3, true, &[nearly, 10]), fact(4, true)];
    assert_eq!(registry.record(node, &arrivals).await.expect("record"), Lease::Kept);
    let mut expected: Vec<_> = told(&arrivals[0]);
    expected.push(told(&arrivals[2])[1]);
    expected.extend(told(&arrivals[3]));
    assert_eq!(names(&kept(log).await), expected);
    assert_eq!(listed(registry).await, 4, "all but the second");
    let departures = [fact_with(2, false, &[20_000]), fact_with(3, false, &[nearly, 10])];
    registry.record(node, &departures).await.expect("record");
    expected.push(told(&departures[1])[1]);
    assert_eq!(names(&kept(log).await), expected);
    assert_eq!(listed(registry).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_whose_departure_is_larger_than_the_server_takes_is_expired() {
    let server = nats("max_payload: 10000");
    let log = open_log(&url(&server), 100).await;
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    // Its events fit, and so does its record, but not both together; one whose event does not fit; one with nothing.
    let payloads: [&[usize]; 3] = [&[2_500, 2_500, 2_500], &[10, 9_600], &[0]];
    let facts = |active| [0, 1, 2].map(|at: usize| fact_with(at as u128 + 1, active, payloads[at]));
    registry.record(node, &facts(true)).await.expect("record");
    let before = kept(&*log).await.len();
    assert_eq!(before, 5);
    registry.resign(node).await.expect("resign");
    let departures = facts(false);
    registry.expire(node, &departures).await.expect("expire");
    assert_eq!((abandoned(registry).await, listed(registry).await), (0, 0));
    let kept = kept(&*log).await;
    let mut names = names(&kept)[before..].to_vec();
    let mut expected = told(&departures[0]);
    expected.extend([told(&departures[1])[0], told(&departures[2])[0]]);
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

/// Its records are larger than they might be now.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_expired_by_a_server_that_takes_less_than_before() {
    let mut server = Server::start(|directory, port| {
        let store = directory.join("store");
        let bound = if directory.join("less").exists() { "max_payload: 2000" } else { "" };
        command(directory, port, &format!("jetstream {{ store_dir: {store:?} }}\n{bound}"))
    });
    let url = url(&server);
    let node = NodeId::new(1);
    let before = open_log(&url, 100).await;
    let registry = before.registry().expect("a registry");
    registry.renew(node).await.expect("renew");
    registry.record(node, &[fact_with(1, true, &[3_000, 10])]).await.expect("record");
    registry.resign(node).await.expect("resign");
    drop(before);
    std::fs::write(server.directory().join("less"), "").expect("a file");
    server.stop();
    server.restart();
    let log = open_log(&url, 100).await;
    let registry = log.registry().expect("a registry");
    assert_eq!(abandoned(registry).await, 1);
    let departure = fact_with(1, false, &[3_000, 10]);
    registry.expire(node, std::slice::from_ref(&departure)).await.expect("expire");
    assert_eq!(abandoned(registry).await, 0);
    assert_eq!(names(&kept(&*log).await).last(), told(&departure).last());
}

/// The log takes only a part of what a batch tells; the batch is given again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_failed_in_its_middle_is_told_once() {
    let server = nats("");
    let log = open_log(&url(&server), 100).await;
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let before = [fact(1, true), fact(2, true), fact(3, true)];
    registry.record(node, &before).await.expect("record");
    let batch = [fact(1, false), fact(4, true), fact(2, false), fact(5, true), fact(3, false)];
    let expected: Vec<_> = before.iter().chain(&batch).flat_map(told).collect();
    for room in [1, 2, 4] {
        bound(&server, 3 + room, 100).await;
        let error = registry.record(node, &batch).await.expect_err("full");
        assert!(matches!(error, TransportError::Full(_)), "{error}");
        assert_eq!(kept(&*log).await.len(), 3 + room as usize);
        forgets(&server, room).await;
    }
    bound(&server, -1, 100).await;
    registry.record(node, &batch).await.expect("record");
    registry.record(node, &batch).await.expect("record");
    let kept = kept(&*log).await;
    assert_eq!(names(&kept), expected);
    assert_eq!(listed(registry).await, 2);
}

/// It was told, but its node does not know; then its node is taken for dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_expired_while_a_batch_failed_arrives_again() {
    let server = nats("");
    let log = open_log(&url(&server), 100).await;
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let arrivals = [fact(1, true), fact(2, true)];
    bound(&server, 1, 120_000).await;
    registry.record(node, &arrivals).await.expect_err("full");
    bound(&server, -1, 120_000).await;
    let departure = fact(1, false);
    registry.resign(node).await.expect("resign");
    registry.expire(node, std::slice::from_ref(&departure)).await.expect("expire");
    registry.renew(node).await.expect("renew");
    for _ in 0..2 {
        registry.record(node, &arrivals).await.expect("record");
    }
    let expected: Vec<_> =
        [&arrivals[0], &departure, &arrivals[0], &arrivals[1]].into_iter().flat_map(told).collect();
    assert_eq!(names(&kept(&*log).await), expected);
    assert_eq!(listed(registry).await, 2);
}

/// Bounds the messages of a log, and how long the server knows what is told twice.
async fn bound(server: &Server, messages: i64, milliseconds: u64) {
    let mut config = api(server, "STREAM.INFO.mercure", &Value::Null).await["config"].take();
    config["max_msgs"] = messages.into();
    config["duplicate_window"] = (milliseconds * 1_000_000).into();
    let updated = api(server, "STREAM.UPDATE.mercure", &config).await;
    assert!(updated["error"].is_null(), "{updated}");
}

/// Waits until the server has forgotten what the log was told, if it knows that for 100 ms: it has forgotten a message of
/// another stream that came later and that it knows for longer.
async fn forgets(server: &Server, message: i64) {
    let stream = json!({"name": "probe", "subjects": ["probe"], "duplicate_window": 200_000_000});
    let created = api(server, "STREAM.CREATE.probe", &stream).await;
    assert!(created["error"].is_null(), "{created}");
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port)).await.expect("connect");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", message.to_string());
    let mut wait = Wait::new("the server forgets");
    for is_first in std::iter::once(true).chain(std::iter::repeat(false)) {
        let answer =
            client.request_with_headers("probe", headers.clone(), "".into()).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        let is_new = answer["duplicate"] != json!(true);
        if is_new && !is_first {
            return;
        }
        assert!(is_new || !is_first, "{answer}");
        wait.goes_on().await;
    }
}
