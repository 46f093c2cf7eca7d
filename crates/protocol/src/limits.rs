//! The bounds on what a peer may send. Each is a setting. The defaults leave room for all known clients, and keep the work
//! for one request within milliseconds.

/// Upper bounds, inclusive; lengths are in bytes of the decoded value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The body of a publish request. Default 1 MiB.
    pub body_bytes_max: usize,
    /// Name/value pairs of a form or a query, known or not. Default 1,000.
    pub fields_max: usize,
    /// `topic` fields of one update: each costs a look-up in the index and a check of grants. Default 100.
    pub topics_max: usize,
    /// One topic. Default 4,096: nearly all software accepts URLs of this length.
    pub topic_bytes_max: usize,
    /// `id` and `type` of an update, each: ids travel in HTTP header fields. Default 1,024.
    pub id_bytes_max: usize,
    /// Matchers (0.x: topic selectors) of one subscriber. Default 100.
    pub matchers_max: usize,
    /// One matcher. Default 4,096.
    pub matcher_bytes_max: usize,
    /// Different last event ids in one request: each costs a look-up in the log. Default 16: clients add one in each of
    /// four spellings.
    pub cursors_max: usize,
    /// Bytes of all matchers of one subscriber, compiled ([`Matcher::bytes`]). Default 256 KiB: a hundred URL patterns
    /// with a few groups each.
    ///
    /// [`Matcher::bytes`]: crate::matcher::Matcher::bytes
    pub matchers_bytes_max: usize,
    /// A token as presented. Default 16 KiB.
    pub token_bytes_max: usize,
    /// Different tokens in the hub's cookies of one request that are verified: each may cost a signature check. Default
    /// 8: a browser has few stale cookies of other paths and domains beside the one in force.
    pub cookie_tokens_max: usize,
    /// Matchers of one token, over all its grants. Default 1,000.
    pub token_matchers_max: usize,
    /// Mercure authorization details of one token. Default 100.
    pub token_details_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            fields_max: 1_000,
            topics_max: 100,
            topic_bytes_max: 4_096,
            id_bytes_max: 1_024,
            matchers_max: 100,
            matcher_bytes_max: 4_096,
            cursors_max: 16,
            matchers_bytes_max: 256 * 1024,
            token_bytes_max: 16 * 1024,
            cookie_tokens_max: 8,
            token_matchers_max: 1_000,
            token_details_max: 100,
        }
    }
}
