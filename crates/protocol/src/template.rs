//! URI templates (RFC 6570) read backwards: does a string look like an expansion of this template?
//!
//! RFC 6570 defines expansion only. Deployed 0.x hubs and their clients agree on this reading: each expression matches
//! whatever its operator could have produced for some values, prefixes (`{var:3}`) count as plain variables, and an
//! expression may be absent. Matching is linear in the length of the string.

use std::{fmt, fmt::Write, sync::OnceLock};

use regex::{Regex, RegexBuilder};

use crate::Reject;

/// A template with at least one expression.
pub struct Template {
    source: Box<str>,
    /// The literal before the first expression: most strings end their comparison here.
    prefix_bytes: usize,
    pattern: Box<str>,
    /// Compiled at the first string that has the prefix, as many templates never meet one.
    regex: OnceLock<Option<Regex>>,
}

impl Template {
    /// Parses `source`. `None`: it is no template, or one without expressions, so it stands for itself only.
    ///
    /// # Errors
    /// [`Reject::MatcherTooComplex`] for more variables than [`VARIABLES_MAX`].
    pub fn parse(source: &str) -> Result<Option<Self>, Reject> {
        let Some(prefix_bytes) = source.find('{') else { return Ok(None) };
        let mut pattern = String::from("^");
        let mut variables = 0;
        let mut rest = source;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}').map(|at| open + at) else { return Ok(None) };
            let Some(expression) = Expression::parse(&rest[open + 1..close]) else { return Ok(None) };
            if !is_literal(&rest[..open]) {
                return Ok(None);
            }
            pattern.push_str(&regex::escape(&rest[..open]));
            variables += expression.variables;
            expression.write_pattern(&mut pattern);
            rest = &rest[close + 1..];
        }
        if !is_literal(rest) {
            return Ok(None);
        }
        if variables > VARIABLES_MAX {
            return Err(Reject::MatcherTooComplex);
        }
        pattern.push_str(&regex::escape(rest));
        pattern.push('$');
        Ok(Some(Self {
            source: source.into(),
            prefix_bytes,
            pattern: pattern.into(),
            regex: OnceLock::new(),
        }))
    }

    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether `value` could be an expansion.
    pub fn matches(&self, value: &str) -> bool {
        let prefix = &self.source.as_bytes()[..self.prefix_bytes];
        value.as_bytes().starts_with(prefix) && self.regex().is_some_and(|regex| regex.is_match(value))
    }

    fn regex(&self) -> Option<&Regex> {
        // A pattern within VARIABLES_MAX and the length limit of a matcher always fits; were it not so, a template
        // that matches nothing is the safe answer.
        let compile = || RegexBuilder::new(&self.pattern).size_limit(PROGRAM_BYTES_MAX).build().ok();
        self.regex.get_or_init(compile).as_ref()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// Variables of one template. Sixteen times what any template in the wild uses; keeps the automaton small.
pub const VARIABLES_MAX: usize = 64;

/// The compiled automaton of one template: measured at 160 KiB for 64 variables, doubled.
const PROGRAM_BYTES_MAX: usize = 1024 * 1024;

/// One `{…}`.
struct Expression {
    operator: Operator,
    variables: usize,
    first_explodes: bool,
    any_explodes: bool,
}

/// What an operator of RFC 6570 (section 2.2, appendix A) writes before, between and inside its values.
struct Operator {
    first: &'static str,
    separator: &'static str,
    named: bool,
    reserved: bool,
}

impl Expression {
    fn parse(inside: &str) -> Option<Self> {
        let (operator, names) = match inside.as_bytes().first()? {
            b'+' => (Operator { first: "", separator: ",", named: false, reserved: true }, &inside[1..]),
            b'#' => (Operator { first: "#", separator: ",", named: false, reserved: true }, &inside[1..]),
            b'.' => (Operator { first: ".", separator: ".", named: false, reserved: false }, &inside[1..]),
            b'/' => (Operator { first: "/", separator: "/", named: false, reserved: false }, &inside[1..]),
            b';' => (Operator { first: ";", separator: ";", named: true, reserved: false }, &inside[1..]),
            b'?' => (Operator { first: "?", separator: "&", named: true, reserved: false }, &inside[1..]),
            b'&' => (Operator { first: "&", separator: "&", named: true, reserved: false }, &inside[1..]),
            // Reserved for extensions, none of which exist.
            b'=' | b',' | b'!' | b'@' | b'|' => return None,
            _ => (Operator { first: "", separator: ",", named: false, reserved: false }, inside),
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

    fn write_pattern(&self, out: &mut String) {
        let Operator { first, separator, named, .. } = self.operator;
        out.push_str("(?:");
        out.push_str(&regex::escape(first));
        self.write_value(out, named || self.first_explodes);
        if self.variables > 1 || self.any_explodes {
            let _ = write!(out, "(?:{}", regex::escape(separator));
            self.write_value(out, named || self.any_explodes);
            out.push(')');
            match self.any_explodes {
                true => out.push('*'),
                false => _ = write!(out, "{{0,{}}}", self.variables - 1),
            }
        }
        out.push_str(")?");
    }

    fn write_value(&self, out: &mut String, named: bool) {
        out.push_str("(?:[A-Za-z0-9\\-._~");
        match (self.operator.reserved, named) {
            (true, _) => out.push_str("!#$&-,/:;=?@\\[\\]"),
            (false, true) => out.push_str(",="),
            (false, false) => out.push(','),
        }
        out.push_str("]|%[0-9A-Fa-f]{2})*");
    }
}

/// Whether `text` is a `varspec` (section 2.3 and 2.4), and if so, whether it explodes.
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

/// Whether all characters are allowed, a `%` only before two hexadecimal digits.
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
        // ucschar and iprivate: everything but C1, surrogates and non-characters, tags and the specials block's end.
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
    fn variables_are_bounded_and_the_largest_template_compiles() {
        let names = |count: usize| vec!["v"; count].join(",");
        for operator in ["", "+", "?"] {
            let largest = format!("{{{operator}{}}}", names(VARIABLES_MAX));
            let template = Template::parse(&largest).expect("allowed").expect("a template");
            assert!(template.regex().is_some());
            let over = format!("{{{operator}{}}}", names(VARIABLES_MAX + 1));
            assert_eq!(Template::parse(&over).err(), Some(Reject::MatcherTooComplex));
        }
        let many = "{+v}".repeat(VARIABLES_MAX);
        assert!(Template::parse(&many).expect("allowed").expect("a template").regex().is_some());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_simple_values_round_trip(source in "[a-z{}+?#,*:%/ é]{0,20}", value in ".*") {
            if let Ok(Some(template)) = Template::parse(&source) {
                template.matches(&value);
            }
            let simple = Template::parse("/x/{id}").expect("allowed").expect("a template");
            let expanded = format!("/x/{}", percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC));
            proptest::prop_assert!(simple.matches(&expanded));
        }
    }
}
