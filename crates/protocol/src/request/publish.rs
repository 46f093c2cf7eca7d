//! A publish request (section "Publication").

use super::form::{Form, Part};
use crate::{
    Limits, Reject,
    event::{EventId, EventType, Retry},
    topic::{HubUrl, Topics},
    update::Draft,
};

/// Parses the body of a publish request. The first occurrence of a single-valued field counts, unknown fields are ignored,
/// and a blank `id`, `type` or `retry` counts as absent.
///
/// # Errors
/// - [`Reject::TooLarge`]: the body, a field or the number of fields or topics exceeds its limit.
/// - [`Reject::NotUtf8`]: any field is not UTF-8.
/// - [`Reject::TopicMissing`], and the errors of [`Topic::parse`](crate::topic::Topic::parse), [`EventId::parse`],
///   [`EventType::parse`] and [`Retry::parse`].
pub fn publish(body: &[u8], hub: &HubUrl, limits: &Limits) -> Result<Draft, Reject> {
    if body.len() > limits.body_bytes_max {
        return Err(Reject::TooLarge { what: "the body in bytes", max: limits.body_bytes_max });
    }
    let form = Form::parse(body, Part::Form, limits)?;
    Ok(Draft {
        topics: Topics::parse(form.all("topic"), hub, limits)?,
        private: form.first("private").is_some(),
        id: form.given("id").map(|value| EventId::parse(value, limits)).transpose()?,
        event_type: form.given("type").map(|value| EventType::parse(value, limits)).transpose()?,
        retry: form.given("retry").map(Retry::parse).transpose()?,
        data: form.first("data").unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft(body: &str) -> Result<Draft, Reject> {
        publish(body.as_bytes(), &HubUrl::default(), &Limits::default())
    }

    #[test]
    fn publish_reads_all_fields() {
        let draft =
            draft("topic=a&topic=b%20c&data=x%0Ay+z&private=&id=i&type=t&retry=5&unknown=1").expect("valid");
        let topics: Vec<_> = draft.topics.iter().map(|topic| topic.as_str().to_owned()).collect();
        assert_eq!(topics, ["a", "b c"]);
        assert_eq!(draft.data, "x\ny z");
        assert!(draft.private);
        assert_eq!(draft.id.expect("given").as_str(), "i");
        assert_eq!(draft.event_type.expect("given").as_str(), "t");
        assert_eq!(draft.retry.map(Retry::millis), Some(5));
    }

    #[test]
    fn only_a_topic_is_required() {
        let draft = draft("topic=a").expect("valid");
        assert_eq!((draft.data.as_str(), draft.private), ("", false));
        assert!(draft.id.is_none() && draft.event_type.is_none() && draft.retry.is_none());
    }

    #[test]
    fn blank_optional_fields_count_as_absent() {
        let draft = draft("topic=a&id=&type=&retry=").expect("valid");
        assert!(draft.id.is_none() && draft.event_type.is_none() && draft.retry.is_none());
    }

    #[test]
    fn private_counts_by_presence() {
        for body in ["topic=a&private", "topic=a&private=", "topic=a&private=off", "topic=a&private=0"] {
            assert!(draft(body).expect("valid").private, "{body}");
        }
        assert!(!draft("topic=a&Private=on").expect("valid").private);
    }

    #[test]
    fn bad_publish_requests_are_refused() {
        for (body, code) in [
            ("", "topic-missing"),
            ("data=x", "topic-missing"),
            ("topic=", "topic-reserved"),
            ("topic=*", "topic-wildcard"),
            ("topic=a&topic=%00", "character-forbidden"),
            ("topic=/.well-known/mercure/subscriptions/a", "topic-reserved"),
            ("topic=a&data=%FF", "not-utf8"),
            ("topic=a&other=%FF", "not-utf8"),
            ("topic=a&id=%23x", "id-reserved"),
            ("topic=a&id=earliest", "id-reserved"),
            ("topic=a&id=x%0Ay", "character-forbidden"),
            ("topic=a&type=mercure", "type-reserved"),
            ("topic=a&type=x%0Ddata:", "character-forbidden"),
            ("topic=a&retry=-1", "retry-invalid"),
            ("topic=a&retry=1%0A", "retry-invalid"),
        ] {
            assert_eq!(draft(body).expect_err(body).code(), code, "{body}");
        }
    }

    #[test]
    fn a_body_is_bounded_in_bytes_topics_and_fields() {
        let limits = Limits::default();
        let body = |length: usize| format!("topic=a&data={}", "x".repeat(length - "topic=a&data=".len()));
        assert!(draft(&body(limits.body_bytes_max)).is_ok());
        let too_large = |what| Err(Reject::TooLarge { what, max: limits.body_bytes_max });
        assert_eq!(draft(&body(limits.body_bytes_max + 1)), too_large("the body in bytes"));
        let topics = |count: usize| draft(&vec!["topic=a"; count].join("&"));
        assert_eq!(topics(100).map(|draft| draft.topics.iter().len()), Ok(100));
        assert_eq!(topics(101), Err(Reject::TooLarge { what: "the number of topics", max: 100 }));
        let fields = |count: usize| draft(&format!("topic=a{}", "&x".repeat(count - 1)));
        assert!(fields(1_000).is_ok());
        assert_eq!(fields(1_001), Err(Reject::TooLarge { what: "the number of fields", max: 1_000 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = publish(&input, &HubUrl::default(), &Limits::default());
        }
    }
}
