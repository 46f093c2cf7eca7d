//! The matchers and grants of a subscriber, and the decision whether it gets an update. The history asks for each update; a
//! shard asks for each update that its index has found.

use std::sync::Arc;

use petasos_protocol::{
    Limits,
    matcher::{LiteralPrefix, Matcher, comparable},
    token::Grants,
    topic::{HubUrl, Topic, Topics},
    update::Update,
};

/// Matchers and grants of one subscriber.
pub(crate) struct Interest {
    pub(crate) matchers: Box<[Matcher]>,
    pub(crate) grants: Arc<Grants>,
}

/// The cost of comparing an update with a subscriber's matchers and grants, in the unit of [`Matcher::cost`]. It is
/// computed when history is compared, and not kept with the subscriber.
pub(crate) struct Costs {
    selecting: Cost,
    /// `None`: the subscriber may have no private updates.
    granting: Option<Cost>,
}

/// The cost of comparing a topic with several matchers, in the unit of [`Matcher::cost`].
#[derive(Clone, Copy)]
struct Cost {
    fixed: usize,
    per_byte: usize,
}

impl Cost {
    fn new(matchers: &[Matcher]) -> Self {
        let cost = |topic_bytes| matchers.iter().map(|each| each.cost(topic_bytes)).sum::<usize>();
        let fixed = cost(0);
        Self { fixed, per_byte: cost(1) - fixed }
    }

    fn topics(self, topics: &Topics) -> usize {
        topics.iter().map(|topic| self.fixed + self.per_byte * topic.as_str().len()).sum()
    }
}

/// The cost of an update that is skipped without a comparison, in the unit of [`Matcher::cost`].
const GLANCE_COST: usize = 4;

/// The cost that a thread spends on one subscriber before others have their turn, in the unit of [`Matcher::cost`], which
/// is about a nanosecond: 0.1 ms. A turn itself costs about a microsecond, so the overhead is about a hundredth.
pub(crate) const SLICE_COST: usize = 100_000;

impl Costs {
    /// An upper bound for the cost of [`Interest::wants`]. Much cheaper than the comparison itself.
    pub(crate) fn update(&self, update: &Update) -> usize {
        match (update.is_private(), self.granting) {
            (false, _) => GLANCE_COST + self.selecting.topics(update.topics()),
            (true, None) => GLANCE_COST,
            (true, Some(granting)) => {
                let topics = update.topics();
                GLANCE_COST + self.selecting.topics(topics) + granting.topics(topics)
            }
        }
    }
}

impl Interest {
    pub(crate) fn new(matchers: Vec<Matcher>, grants: Arc<Grants>) -> Self {
        Self { matchers: matchers.into(), grants }
    }

    /// What comparing an update costs.
    pub(crate) fn costs(&self) -> Costs {
        let granting = self.sees_private().then(|| Cost::new(&self.grants.subscribe));
        Costs { selecting: Cost::new(&self.matchers), granting }
    }

    /// All subscription events of both dialects, each once.
    pub(crate) fn in_subscriptions(hub: &HubUrl) -> Self {
        let under = |rest: &str| {
            let template = format!("{}/subscriptions/{rest}", hub.path());
            Matcher::selector(&template, &Limits::default()).expect("a URI template")
        };
        let matchers = vec![under("{topic}/{subscriber}"), under("{match_type}/{match}/{subscriber}")];
        let grants = Arc::new(Grants { subscribe: matchers.clone(), ..Grants::default() });
        Self::new(matchers, grants)
    }

    /// Whether the update is selected and allowed. Each topic may select; permission looks at the update as a whole.
    pub(crate) fn wants(&self, update: &Update) -> bool {
        // First: the topics of a subscription event are written only when they are asked for.
        if update.is_private() && !self.sees_private() {
            return false;
        }
        let selected = |topic: &Topic| self.matchers.iter().any(|matcher| matcher.matches(topic));
        update.topics().iter().any(selected) && self.may_have(update)
    }

    /// [`Interest::wants`] in slices: continues where `search` stands until the answer is known or `budget` is used up, and
    /// takes its cost from `budget`. `None`: the budget is used up; call again with the same `search`.
    pub(crate) fn search(&self, update: &Update, search: &mut Search, budget: &mut usize) -> Option<bool> {
        let found = self.compare(update, search, budget)?;
        *budget = budget.saturating_sub(GLANCE_COST);
        Some(found)
    }

    fn compare(&self, update: &Update, search: &mut Search, budget: &mut usize) -> Option<bool> {
        if update.is_private() && !self.sees_private() {
            return Some(false);
        }
        if let Search::Selecting(at) = search {
            if !any_matches(&self.matchers, update.topics(), at, budget)? {
                return Some(false);
            }
            *search = Search::Granting(0);
        }
        match search {
            Search::Granting(at) if update.is_private() => {
                any_matches(&self.grants.subscribe, update.topics(), at, budget)
            }
            _ => Some(true),
        }
    }

    /// Whether an update that is selected may be delivered.
    pub(crate) fn may_have(&self, update: &Update) -> bool {
        !update.is_private() || self.grants.may_receive(update.topics())
    }

    /// Whether the subscriber may know that an update which it receives has this topic. Topics of a public update are public. A
    /// topic of a private update is known to subscribers that have asked for it by its name, and to those with a grant for
    /// it: publishers address several readers with one private update, and none has to learn of the others.
    pub(crate) fn may_know(&self, update: &Update, topic: &Topic) -> bool {
        let is_named =
            |matcher: &Matcher| matches!(matcher, Matcher::Exact(text) if **text == *topic.as_str());
        !update.is_private()
            || self.matchers.iter().any(is_named)
            || self.grants.subscribe.iter().any(|matcher| matcher.matches(topic))
    }

    /// Whether it may receive subscription events: a matcher and a grant may select their topics. False only if none does.
    pub(crate) fn receives_events(&self, hub: &HubUrl) -> bool {
        let topics = format!("{}/subscriptions/", hub.path());
        // Shorter, because dots in a matcher's text may lead out of the directory once its topic is resolved.
        let urls = format!("{}/", comparable(hub.as_url()));
        let are_alike = |prefix: &str, begins: &str| prefix.starts_with(begins) || begins.starts_with(prefix);
        let may_select = |matcher: &Matcher| match matcher.literal_prefix() {
            LiteralPrefix::Text(prefix) => are_alike(prefix, &topics),
            LiteralPrefix::Url(prefix) => are_alike(&prefix, &urls),
        };
        self.matchers.iter().any(may_select) && self.grants.subscribe.iter().any(may_select)
    }

    /// Whether private updates, hence subscription events, can concern it at all.
    pub(crate) fn sees_private(&self) -> bool {
        !self.grants.subscribe.is_empty()
    }
}

/// How far [`Interest::search`] has come with one update: the number of pairs of topic and matcher that are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Search {
    /// With the subscriber's own matchers.
    Selecting(usize),
    /// With those of its token, once the update is selected.
    Granting(usize),
}

impl Default for Search {
    fn default() -> Self {
        Self::Selecting(0)
    }
}

/// Whether one of the matchers matches one of the topics, looked for from pair `at` on. `None`: the budget is used up.
fn any_matches(matchers: &[Matcher], topics: &Topics, at: &mut usize, budget: &mut usize) -> Option<bool> {
    let pairs = topics.iter().flat_map(|topic| matchers.iter().map(move |matcher| (topic, matcher)));
    for (topic, matcher) in pairs.skip(*at) {
        if *budget == 0 {
            return None;
        }
        *budget = budget.saturating_sub(matcher.cost(topic.as_str().len()));
        *at += 1;
        if matcher.matches(topic) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{matcher::MatcherType, request};
    use proptest::prelude::*;

    use super::*;

    const SELECTORS: [&str; 6] = ["a", "b", "/{id}", "*", "/x/{+rest}", "http://h/:id"];
    const TOPICS: [&str; 5] = ["a", "b", "/1", "/x/1/2", "http://h/1"];

    fn matchers(chosen: &[usize]) -> Vec<Matcher> {
        let limits = Limits::default();
        let parse = |text: &str| match text.contains("/:") {
            true => Matcher::parse(MatcherType::UrlPattern, text, &HubUrl::default(), &limits),
            false => Matcher::selector(text, &limits),
        };
        chosen.iter().map(|at| parse(SELECTORS[*at]).expect("valid")).collect()
    }

    proptest! {
        #[test]
        fn a_search_in_pieces_finds_what_a_search_at_once_finds_and_costs_no_more_than_was_said(
            selecting in prop::collection::vec(0..SELECTORS.len(), 1..4),
            granting in prop::collection::vec(0..SELECTORS.len(), 0..4),
            topics in prop::collection::vec(0..TOPICS.len(), 1..4),
            private in any::<bool>(),
            slice in 1_usize..200,
        ) {
            let body: String = topics.iter().map(|at| format!("topic={}&", TOPICS[*at])).collect();
            let body = if private { format!("{body}private=on&id=1") } else { format!("{body}id=1") };
            let draft = request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
            let update = Update::publish(draft, || unreachable!("an id is given"));
            let grants = Grants { subscribe: matchers(&granting), ..Grants::default() };
            let interest = Interest::new(matchers(&selecting), Arc::new(grants));
            let mut search = Search::default();
            let mut pieces = 0;
            let found = loop {
                pieces += 1;
                let mut budget = slice;
                if let Some(found) = interest.search(&update, &mut search, &mut budget) {
                    break found;
                }
                prop_assert_eq!(budget, 0);
                prop_assert!(pieces <= 100, "it comes to an end");
            };
            prop_assert_eq!(found, interest.wants(&update));
            let mut budget = interest.costs().update(&update) + 1;
            prop_assert!(interest.search(&update, &mut Search::default(), &mut budget).is_some());
            prop_assert!(budget > 0);
        }
    }

    fn update(body: &str) -> Update {
        let draft = request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
        Update::publish(draft, || unreachable!("an id is given"))
    }

    fn interest(selecting: &[usize], granting: &[usize]) -> Interest {
        let grants = Grants { subscribe: matchers(granting), ..Grants::default() };
        Interest::new(matchers(selecting), Arc::new(grants))
    }

    #[test]
    fn only_a_grant_that_covers_an_update_lets_a_private_one_through() {
        let (public, private) = (update("topic=a&id=1"), update("topic=a&id=1&private=on"));
        for (granting, sees_private, may_have) in
            [(&[][..], false, false), (&[1], true, false), (&[0], true, true)]
        {
            let interest = interest(&[0], granting);
            assert_eq!(interest.sees_private(), sees_private, "{granting:?}");
            assert_eq!(interest.may_have(&private), may_have, "{granting:?}");
            assert_eq!(interest.wants(&private), may_have, "{granting:?}");
            assert!(interest.may_have(&public) && interest.wants(&public));
            assert!(!interest.wants(&update("topic=b&id=1")));
        }
    }

    #[test]
    fn the_cost_of_an_update_is_the_sum_over_its_topics_of_what_is_compared() {
        let cost = |interest: &Interest, body| interest.costs().update(&update(body));
        let (one, two) = (interest(&[2], &[]), interest(&[2, 2], &[]));
        let single = cost(&one, "topic=a&id=1") - GLANCE_COST;
        assert!(single > 0);
        assert_eq!(cost(&two, "topic=a&id=1"), GLANCE_COST + 2 * single);
        assert_eq!(cost(&one, "topic=a&topic=b&id=1"), GLANCE_COST + 2 * single);
        assert_eq!(cost(&one, "topic=a&id=1&private=on"), GLANCE_COST, "it is skipped");
        let granted = interest(&[2], &[2]);
        assert_eq!(cost(&granted, "topic=a&id=1&private=on"), GLANCE_COST + 2 * single);
        assert_eq!(cost(&granted, "topic=a&id=1"), GLANCE_COST + single, "a grant is not looked at");
    }
}
