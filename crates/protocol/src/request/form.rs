//! `application/x-www-form-urlencoded`, decoded: bodies and queries become names and values.
//!
//! This is the parser of the WHATWG URL Standard, with a bound on the number of fields, and strict about UTF-8 where the
//! standard puts replacement characters. What the fields mean is decided elsewhere.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::parameters;
use crate::{Limits, Reject};

/// Where a form stands in a request. It decides which [`Reject`] a broken limit is, and so its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The body of a publish request.
    Form,
    /// The query component.
    Query,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Query => "query",
        }
    }
}

/// Decoded pairs of name and value, in order.
pub struct Form<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The number of pairs of the form itself. The pairs behind them were added with [`Form::and`].
    own: usize,
}

impl<'a> Form<'a> {
    /// Decodes `input`. A `%` without two hexadecimal digits stands for itself. A query may have parameters that Mercure
    /// does not know, and these may hold any bytes: a pair that is not UTF-8 is left out.
    ///
    /// # Errors
    /// - [`Reject::NotUtf8`]: a name or a value is not UTF-8.
    /// - [`Reject::TooLarge`] (form) or [`Reject::TooMany`] (query): more fields than [`Limits::fields_max`].
    pub fn parse(input: &'a [u8], part: Part, limits: &Limits) -> Result<Self, Reject> {
        let mut pairs = Vec::new();
        for field in input.split(|byte| *byte == b'&').filter(|field| !field.is_empty()) {
            if pairs.len() == limits.fields_max {
                let (what, max) = ("the number of fields", limits.fields_max);
                return Err(match part {
                    Part::Form => Reject::TooLarge { what, max },
                    Part::Query => Reject::TooMany { what, max },
                });
            }
            let equals = field.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(at) => (&field[..at], &field[at + 1..]),
                None => (field, &field[..0]),
            };
            match (decode(name, part), decode(value, part)) {
                (Ok(name), Ok(value)) => pairs.push((name, value)),
                // Proxies and analytics add parameters of their own to URLs.
                (name, _)
                    if part == Part::Query && !name.as_ref().is_ok_and(|name| parameters::is_known(name)) => {
                }
                (Err(reject), _) | (_, Err(reject)) => return Err(reject),
            }
        }
        Ok(Self { own: pairs.len(), pairs })
    }

    /// The first value of that name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of that name, unless it is empty: clients also send the optional fields that they leave blank.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|value| !value.is_empty())
    }

    /// All pairs, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// All values of that name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// Adds the pairs of another form behind its own (section "Subscription": query component and body).
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.pairs.extend(other.pairs);
        self
    }

    /// The values of one parameter in all of its `spellings`, in order. If both components have the parameter, only the
    /// values in the first component count (section "Subscription").
    pub(super) fn one_parameter(&self, spellings: &[&str]) -> impl Iterator<Item = &str> {
        let (own, added) = self.pairs.split_at(self.own);
        let is_named = move |(name, _): &&(Cow<'_, str>, Cow<'_, str>)| spellings.contains(&&**name);
        let counted = if own.iter().any(|pair| is_named(&pair)) { own } else { added };
        counted.iter().filter(is_named).map(|(_, value)| &**value)
    }
}

fn decode<'a>(input: &'a [u8], part: Part) -> Result<Cow<'a, str>, Reject> {
    if !input.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return std::str::from_utf8(input)
            .map(Cow::Borrowed)
            .map_err(|_| Reject::NotUtf8 { part: part.name() });
    }
    let spaced: Vec<u8> = input.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded = percent_decode(&spaced).collect();
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Reject::NotUtf8 { part: part.name() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(input: &str, part: Part) -> Result<Form<'_>, Reject> {
        Form::parse(input.as_bytes(), part, &Limits::default())
    }

    #[test]
    fn values_of_one_name_are_found_in_order_and_blank_ones_count_as_not_given() {
        let form = parse("a=1&b=&a=2&c", Part::Form).expect("a form");
        assert_eq!(form.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((form.first("b"), form.given("b")), (Some(""), None));
        assert_eq!((form.first("c"), form.first("d"), form.given("a")), (Some(""), None, Some("1")));
    }

    #[test]
    fn fields_are_bounded_and_empty_ones_are_none() {
        let limits = Limits { fields_max: 2, ..Limits::default() };
        let parse = |input: &'static str, part| Form::parse(input.as_bytes(), part, &limits).err();
        let what = "the number of fields";
        assert_eq!(parse("&a&&b&", Part::Form), None);
        assert_eq!(parse("a&b&c", Part::Form), Some(Reject::TooLarge { what, max: 2 }));
        assert_eq!(parse("a&b&c", Part::Query), Some(Reject::TooMany { what, max: 2 }));
    }

    #[test]
    fn text_that_is_no_utf8_names_the_part_of_the_request() {
        assert_eq!(parse("a=%FF", Part::Form).err(), Some(Reject::NotUtf8 { part: "form" }));
        assert_eq!(parse("topic=%FF", Part::Query).err(), Some(Reject::NotUtf8 { part: "query" }));
    }

    proptest! {
        #[test]
        fn agrees_with_the_whatwg_parser_on_utf8(input in "[a-c&=+%0-9é]{0,40}") {
            let reference: Vec<_> = url::form_urlencoded::parse(input.as_bytes()).into_owned().collect();
            match parse(&input, Part::Form) {
                Ok(form) => {
                    let ours: Vec<_> = form.pairs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                    prop_assert_eq!(ours, reference);
                }
                Err(_) => {
                    let lossy = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
                    let refused_rightly = reference.iter().any(|(name, value)| lossy(name) || lossy(value));
                    prop_assert!(refused_rightly);
                }
            }
        }
    }
}
