//! URI templates (RFC 6570) read backwards: is a string an expansion of the template?
//!
//! RFC 6570 only defines expansion. The hubs of 0.x and their clients agree on this reading: an expression matches every
//! text that its operator can produce, a prefix (`{var:3}`) counts as a plain variable, and an expression may be absent.
//!
//! Each part of a template is matched over all positions of the string that the parts before it can reach. This takes time
//! in proportion to the length of the string times the number of variables. A template is neither compiled nor cached, so
//! that each of a hundred thousand subscribers costs its text and little more. A test compares this reading with regular
//! expressions.

use std::{fmt, sync::Arc};

use crate::{
    Reject,
    heap::{SHARED_ALLOCATION_BYTES, text_bytes},
};

/// A template with at least one expression.
pub struct Template {
    source: Arc<str>,
    /// Literals and expressions in turn. The first and the last part are literals, which may be empty.
    parts: Box<[Part]>,
}

enum Part {
    Literal(Box<str>),
    Expression(Expression),
}

impl Template {
    /// Parses `source`. `None`: `source` is no template, or has no expression, so it only selects itself.
    ///
    /// # Errors
    /// [`Reject::MatcherTooComplex`]: more than 16 variables.
    pub fn parse(source: &str) -> Result<Option<Self>, Reject> {
        if !source.contains('{') {
            return Ok(None);
        }
        let mut parts = Vec::new();
        let mut variables = 0;
        let mut rest = source;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}').map(|at| open + at) else { return Ok(None) };
            let Some(expression) = Expression::parse(&rest[open + 1..close]) else { return Ok(None) };
            if !is_literal(&rest[..open]) {
                return Ok(None);
            }
            variables += expression.variables;
            parts.push(Part::Literal(rest[..open].into()));
            parts.push(Part::Expression(expression));
            rest = &rest[close + 1..];
        }
        if !is_literal(rest) {
            return Ok(None);
        }
        if variables > VARIABLES_MAX {
            return Err(Reject::MatcherTooComplex);
        }
        parts.push(Part::Literal(rest.into()));
        Ok(Some(Self { source: source.into(), parts: parts.into() }))
    }

    /// The text that the template was parsed from.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The text that the template was parsed from, shared.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.source
    }

    /// The literal before the first expression, which may be empty. Every expansion begins with it, and so does the text of
    /// the template.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// An estimate of the memory that the template takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let literals = self.parts.iter().map(|part| match part {
            Part::Literal(literal) => text_bytes(literal.len()),
            Part::Expression(_) => 0,
        });
        let source = SHARED_ALLOCATION_BYTES + self.source.len();
        size_of::<Self>() + source + size_of_val(&*self.parts) + literals.sum::<usize>()
    }

    /// An upper bound of the time that [`Self::matches`] takes for a value of `value_bytes`, in nanoseconds, roughly: each
    /// variable looks at every byte a few times.
    pub(crate) fn cost(&self, value_bytes: usize) -> usize {
        let variables = self.parts.iter().map(|part| match part {
            Part::Literal(_) => 1,
            Part::Expression(expression) => 4 * expression.variables,
        });
        variables.sum::<usize>() * value_bytes
    }

    /// Whether `value` can be an expansion of the template.
    pub fn matches(&self, value: &str) -> bool {
        let value = value.as_bytes();
        // For most strings, the comparison ends at the first or the last literal.
        let [Part::Literal(first), middle @ .., Part::Literal(last)] = &*self.parts else { return false };
        let Some(value) = value.strip_prefix(first.as_bytes()) else { return false };
        let Some(value) = value.strip_suffix(last.as_bytes()) else { return false };
        let mut positions = Positions::at_start(value.len());
        for part in middle {
            match part {
                Part::Literal(literal) => positions.take_literal(value, literal.as_bytes()),
                Part::Expression(expression) => expression.take(value, &mut positions),
            }
        }
        positions.0[value.len()]
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// The most variables of one template: four times as many as any known template has. They bound the time of a match.
const VARIABLES_MAX: usize = 16;

/// One `{…}`.
struct Expression {
    operator: Operator,
    variables: usize,
    first_explodes: bool,
    any_explodes: bool,
}

/// The characters that an operator of RFC 6570 (section 2.2, appendix A) writes before, between and inside its values.
struct Operator {
    first: Option<u8>,
    separator: u8,
    named: bool,
    reserved: bool,
}

/// The positions in a string, from 0 to its length, at which the next part of a template can begin.
struct Positions(Vec<bool>);

impl Positions {
    fn at_start(length: usize) -> Self {
        let mut positions = vec![false; length + 1];
        positions[0] = true;
        Self(positions)
    }

    /// Moves each position over `literal`, and drops a position where `literal` does not stand.
    fn take_literal(&mut self, value: &[u8], literal: &[u8]) {
        let mut next = vec![false; self.0.len()];
        for at in (0..=value.len()).filter(|at| self.0[*at]) {
            if value[at..].starts_with(literal) {
                next[at + literal.len()] = true;
            }
        }
        self.0 = next;
    }

    /// Moves each position over `octet`, and drops a position where `octet` does not stand.
    fn after(&self, value: &[u8], octet: u8) -> Self {
        let mut next = vec![false; self.0.len()];
        for at in 0..value.len() {
            next[at + 1] = self.0[at] && value[at] == octet;
        }
        Self(next)
    }

    /// Adds all positions that any number of allowed characters and percent-encoded octets lead to.
    fn extend(&mut self, value: &[u8], allowed: impl Fn(u8) -> bool) {
        for at in 0..value.len() {
            if !self.0[at] {
                continue;
            }
            if allowed(value[at]) {
                self.0[at + 1] = true;
            } else if is_triplet(&value[at..]) {
                self.0[at + 3] = true;
            }
        }
    }

    /// Adds all positions that any number of values lead to, each value after a separator.
    fn extend_list(&mut self, value: &[u8], separator: u8, allowed: impl Fn(u8) -> bool) {
        let mut inside = vec![false; self.0.len()];
        for at in 0..value.len() {
            self.0[at] |= inside[at];
            inside[at + 1] |= (self.0[at] && value[at] == separator) || (inside[at] && allowed(value[at]));
            if inside[at] && is_triplet(&value[at..]) {
                inside[at + 3] = true;
            }
        }
        self.0[value.len()] |= inside[value.len()];
    }

    fn add(&mut self, other: &Self) {
        for (position, also) in self.0.iter_mut().zip(&other.0) {
            *position |= also;
        }
    }
}

/// Whether `value` begins with a percent-encoded octet.
fn is_triplet(value: &[u8]) -> bool {
    matches!(value, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

impl Expression {
    fn parse(inside: &str) -> Option<Self> {
        let (operator, names) = match inside.as_bytes().first()? {
            b'+' => (Operator { first: None, separator: b',', named: false, reserved: true }, &inside[1..]),
            b'#' => {
                (Operator { first: Some(b'#'), separator: b',', named: false, reserved: true }, &inside[1..])
            }
            b'.' => {
                (Operator { first: Some(b'.'), separator: b'.', named: false, reserved: false }, &inside[1..])
            }
            b'/' => {
                (Operator { first: Some(b'/'), separator: b'/', named: false, reserved: false }, &inside[1..])
            }
            b';' => {
                (Operator { first: Some(b';'), separator: b';', named: true, reserved: false }, &inside[1..])
            }
            b'?' => {
                (Operator { first: Some(b'?'), separator: b'&', named: true, reserved: false }, &inside[1..])
            }
            b'&' => {
                (Operator { first: Some(b'&'), separator: b'&', named: true, reserved: false }, &inside[1..])
            }
            // These are reserved for extensions. There are none.
            b'=' | b',' | b'!' | b'@' | b'|' => return None,
            _ => (Operator { first: None, separator: b',', named: false, reserved: false }, inside),
        };
        let mut expression = Self { operator, variables: 0, first_explodes: false, any_explodes: false };
        for variable in names.split(',') {
            let explodes = is_variable(variable)?;
            expression.first_explodes |= explodes && expression.variables == 0;
            expression.any_explodes |= explodes;
            expression.variables += 1;
        }
        Some(expression)
    }

    /// Moves each position over every text that the expression can produce. An expression can also produce nothing.
    fn take(&self, value: &[u8], positions: &mut Positions) {
        let Operator { first, separator, named, reserved } = self.operator;
        let mut reached = match first {
            Some(octet) => positions.after(value, octet),
            None => Positions(positions.0.clone()),
        };
        reached.extend(value, |octet| is_allowed(octet, reserved, named || self.first_explodes));
        let allowed = |octet| is_allowed(octet, reserved, named || self.any_explodes);
        if self.any_explodes {
            reached.extend_list(value, separator, allowed);
        } else {
            let mut last = Positions(reached.0.clone());
            for _ in 1..self.variables {
                last = last.after(value, separator);
                last.extend(value, allowed);
                reached.add(&last);
            }
        }
        positions.add(&reached);
    }
}

/// Whether an octet can stand in a value, beside percent-encoded octets: unreserved characters, the characters that join
/// lists and names, and the reserved characters with `+` and `#`.
fn is_allowed(octet: u8, reserved: bool, named: bool) -> bool {
    match octet {
        b'-' | b'.' | b'_' | b'~' | b',' => true,
        b'=' => reserved || named,
        b'!' | b'#' | b'$' | b'&' | b'/' | b':' | b';' | b'?' | b'@' | b'[' | b']' => reserved,
        _ => octet.is_ascii_alphanumeric(),
    }
}

/// Reads a `varspec` (sections 2.3 and 2.4): whether it explodes. `None`: `text` is no `varspec`.
fn is_variable(text: &str) -> Option<bool> {
    let (name, explodes) = match text.strip_suffix('*') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let name = match name.split_once(':') {
        Some((name, length)) => {
            let digits = (1..=4).contains(&length.len()) && length.bytes().all(|byte| byte.is_ascii_digit());
            if explodes || !digits || length.starts_with('0') {
                return None;
            }
            name
        }
        None => name,
    };
    let valid = name.split('.').all(|part| !part.is_empty() && is_escaped(part, is_name_character));
    valid.then_some(explodes)
}

/// Whether `text` may stand outside expressions (section 2.1).
fn is_literal(text: &str) -> bool {
    is_escaped(text, is_literal_character)
}

/// Whether all characters are allowed. A `%` is allowed before two hexadecimal digits only.
fn is_escaped(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    text.char_indices().all(|(at, character)| match character {
        '%' => matches!(text.as_bytes().get(at + 1..at + 3), Some(pair) if pair.iter().all(u8::is_ascii_hexdigit)),
        _ => allowed(character),
    })
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn is_literal_character(character: char) -> bool {
    match character {
        '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => false,
        // The apostrophe is allowed by erratum 6937.
        _ if character.is_ascii() => character.is_ascii_graphic(),
        // ucschar and iprivate: all but C1, surrogates, non-characters, tags and the end of the specials block.
        _ => {
            let code = character as u32;
            code >= 0xA0
                && code & 0xFFFE != 0xFFFE
                && !(0xFDD0..=0xFDEF).contains(&code)
                && !(0xFFF0..=0xFFFF).contains(&code)
                && !(0xE0000..=0xE0FFF).contains(&code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, value: &str) -> bool {
        Template::parse(template).expect("not too complex").expect("a template").matches(value)
    }

    #[test]
    fn each_operator_matches_what_it_expands_to() {
        // Expansions from RFC 6570, sections 3.2.2 to 3.2.9.
        for (template, value) in [
            ("{var}", "value"),
            ("{hello}", "Hello%20World%21"),
            ("O{empty}X", "OX"),
            ("O{undef}X", "OX"),
            ("{x,y}", "1024,768"),
            ("?{x,empty}", "?1024,"),
            ("{var:3}", "val"),
            ("{list}", "red,green,blue"),
            ("{list*}", "red,green,blue"),
            ("{keys}", "semi,%3B,dot,.,comma,%2C"),
            ("{keys*}", "semi=%3B,dot=.,comma=%2C"),
            ("{+var}", "value"),
            ("{+hello}", "Hello%20World!"),
            ("{+path}/here", "/foo/bar/here"),
            ("here?ref={+path}", "here?ref=/foo/bar"),
            ("up{+path}{var}/here", "up/foo/barvalue/here"),
            ("{+x,hello,y}", "1024,Hello%20World!,768"),
            ("{#var}", "#value"),
            ("{#path,x}/here", "#/foo/bar,1024/here"),
            ("{#keys*}", "#semi=;,dot=.,comma=,"),
            ("X{.var}", "X.value"),
            ("X{.x,y}", "X.1024.768"),
            ("X{.list*}", "X.red.green.blue"),
            ("{/var}", "/value"),
            ("{/var,x}/here", "/value/1024/here"),
            ("{/list*,path:4}", "/red/green/blue/%2Ffoo"),
            ("{;x,y}", ";x=1024;y=768"),
            ("{;x,y,empty}", ";x=1024;y=768;empty"),
            ("{?x,y}", "?x=1024&y=768"),
            ("{?x,y,undef}", "?x=1024&y=768"),
            ("{?keys*}", "?semi=%3B&dot=.&comma=%2C"),
            ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
            ("{&list*}", "&list=red&list=green&list=blue"),
            (
                "https://example.com/users/foo/{?topic}",
                "https://example.com/users/foo/?topic=https%3A%2F%2Fe.com%2F1",
            ),
            ("https://example.com/é/{id}", "https://example.com/é/1"),
        ] {
            assert!(matches(template, value), "{template} should match {value}");
        }
    }

    #[test]
    fn values_do_not_leak_over_separators() {
        for (template, value) in [
            ("https://example.com/books/{id}", "https://example.com/books/1/pages"),
            ("https://example.com/books/{id}", "https://example.com/books/1?x"),
            ("https://example.com/books/{id}", "https://example.org/books/1"),
            ("/books/{id}", "x/books/1"),
            ("/books/{id}.json", "/books/1-json"),
            ("{var}", "a b"),
            ("{var}", "a\nb"),
            ("{var}", "é"),
            ("{var}", "%2"),
            ("{+var}", "a b"),
            ("{/var}", "value"),
            ("{;x}", "?x=1"),
            ("X{.x,y}", "X.1.2.3/4"),
        ] {
            assert!(!matches(template, value), "{template} should not match {value}");
        }
    }

    #[test]
    fn what_is_no_template_is_none() {
        for text in [
            "plain",
            "{",
            "}",
            "a{b",
            "{}",
            "{a b}",
            "{=a}",
            "{,a}",
            "{!a}",
            "{@a}",
            "{|a}",
            "{a,}",
            "{a:}",
            "{a:0}",
            "{a:12345}",
            "{a:3*}",
            "{a..b}",
            "{.}",
            "{%zz}",
            "a b{c}",
            "%{a}",
            "{a}%z",
            "{a}}",
            "{{a}}",
            "<{a}>",
            "{a}\u{85}",
        ] {
            assert!(Template::parse(text).expect("not too complex").is_none(), "{text}");
        }
    }

    #[test]
    fn variables_are_bounded() {
        for operator in ["", "+", "?"] {
            let template = |count: usize| format!("{{{operator}{}}}", vec!["v"; count].join(","));
            assert!(Template::parse(&template(VARIABLES_MAX)).is_ok());
            assert_eq!(Template::parse(&template(VARIABLES_MAX + 1)).err(), Some(Reject::MatcherTooComplex));
        }
    }

    /// Each step of a list is visited once. Otherwise 100 templates on 100 such topics take more than a minute.
    #[test]
    fn lists_take_time_in_proportion_to_their_length() {
        let template = Template::parse("{/x*}").expect("not too complex").expect("a template");
        for length in [1_000, 1_000_000] {
            assert!(template.matches(&"/".repeat(length)));
            assert!(!template.matches(&format!("{} ", "/".repeat(length))));
        }
    }

    /// The same reading as a regular expression, which other implementations use.
    fn regex(template: &Template) -> regex::Regex {
        let mut pattern = String::from("^");
        for part in &template.parts {
            match part {
                Part::Literal(literal) => pattern.push_str(&regex::escape(literal)),
                Part::Expression(expression) => {
                    let Operator { first, separator, named, reserved } = expression.operator;
                    let value = |named: bool| {
                        let more = match (reserved, named) {
                            (true, _) => "!#$&,/:;=?@\\[\\]",
                            (false, true) => ",=",
                            (false, false) => ",",
                        };
                        format!("(?:[A-Za-z0-9\\-._~{more}]|%[0-9A-Fa-f]{{2}})*")
                    };
                    let octet = |octet: u8| regex::escape(&char::from(octet).to_string());
                    let first = first.map(octet).unwrap_or_default();
                    let again = format!("{}{}", octet(separator), value(named || expression.any_explodes));
                    let times = match expression.any_explodes {
                        true => "*".to_owned(),
                        false => format!("{{0,{}}}", expression.variables - 1),
                    };
                    let begin = value(named || expression.first_explodes);
                    pattern.push_str(&format!("(?:{first}{begin}(?:{again}){times})?"));
                }
            }
        }
        regex::Regex::new(&format!("{pattern}$")).expect("a pattern")
    }

    #[test]
    fn literals_and_names_have_the_characters_of_the_standard() {
        let is_template = |text: &str| Template::parse(text).expect("not too complex").is_some();
        for good in [
            "{a_b}",
            "{a.b1}",
            "{a%41}",
            "{a:1}",
            "{a:9999}",
            "'{a}",
            "%41{a}",
            "\u{a0}{a}",
            "\u{fdcf}{a}",
            "\u{fdf0}{a}",
            "\u{ffef}{a}",
            "\u{1fffd}{a}",
            "\u{dfffd}{a}",
            "\u{e1000}{a}",
        ] {
            assert!(is_template(good), "{good:?}");
        }
        for bad in [
            "{a-b}",
            "{a%4}",
            "\u{9f}{a}",
            "\u{fdd0}{a}",
            "\u{fdef}{a}",
            "\u{fff0}{a}",
            "\u{ffff}{a}",
            "\u{1fffe}{a}",
            "\u{1ffff}{a}",
            "\u{e0000}{a}",
            "\u{e0fff}{a}",
            "\u{7f}{a}",
        ] {
            assert!(!is_template(bad), "{bad:?}");
        }
        assert_eq!(format!("{:?}", Template::parse("/{a}").expect("valid").expect("a template")), "\"/{a}\"");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

        #[test]
        fn agrees_with_a_regular_expression(
            source in "([ab/.,;=&?#%]{0,2}\\{[+#./;?&]?(a|b|a,b|a\\*|a,b\\*|a:3,b,c)\\}){1,3}[ab/.]{0,2}",
            value in "([ab/.,;=&?#!é ]|%41|%4){0,12}",
        ) {
            if let Ok(Some(template)) = Template::parse(&source) {
                proptest::prop_assert_eq!(template.matches(&value), regex(&template).is_match(&value));
                proptest::prop_assert!(source.starts_with(template.literal_prefix()));
                proptest::prop_assert!(!template.matches(&value) || value.starts_with(template.literal_prefix()));
            }
        }

        #[test]
        fn nothing_panics_and_simple_values_round_trip(source in "[a-z{}+?#,*:%/ é]{0,20}", value in ".*") {
            if let Ok(Some(template)) = Template::parse(&source) {
                template.matches(&value);
            }
            let simple = Template::parse("/x/{id}").expect("allowed").expect("a template");
            let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            let expanded = format!("/x/{encoded}");
            proptest::prop_assert!(simple.matches(&expanded));
        }
    }
}
