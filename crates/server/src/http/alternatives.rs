//! Where else a hub can be reached, as answers say it: the field `Alt-Svc` (RFC 7838).

use http::HeaderValue;

/// The value of a field `Alt-Svc`: `clear`, or alternative services in the order in which they are preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlternativeServices(HeaderValue);

impl AlternativeServices {
    /// Reads the value as it stands in the field.
    ///
    /// ```
    /// use petasos_server::AlternativeServices;
    ///
    /// assert!(AlternativeServices::parse(r#"h3=":443"; ma=3600"#).is_ok());
    /// assert!(AlternativeServices::parse("h3").is_err());
    /// ```
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_valid = text == "clear" || split(text, b',').iter().all(|service| is_service(service));
        let value = HeaderValue::from_str(text).ok().filter(|_| is_valid && text.len() <= BYTES_MAX);
        value.map(Self).ok_or_else(|| {
            "write clear, or services with their ports, such as h3=\":443\" or h3=\"alt.example.com:443\"; ma=3600".to_owned()
        })
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Every answer has it.
const BYTES_MAX: usize = 1024;

/// Whether a text is one service with its parameters.
fn is_service(text: &str) -> bool {
    let mut parts = split(text, b';').into_iter();
    let service = parts.next().and_then(|part| part.split_once('='));
    let is_placed = service.is_some_and(|(protocol, place)| {
        let port =
            unquoted(place).and_then(|place| place.rsplit_once(':')).map(|(_, port)| port.parse::<u16>());
        is_token(protocol) && matches!(port, Some(Ok(1..)))
    });
    let is_parameter = |part: &str| {
        part.split_once('=')
            .is_some_and(|(name, value)| is_token(name) && (is_token(value) || unquoted(value).is_some()))
    };
    is_placed && parts.all(is_parameter)
}

/// The parts between separators, without the spaces around them. Separators within quotes separate nothing.
fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut begin, mut is_quoted) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        is_quoted ^= byte == b'"';
        if byte == separator && !is_quoted {
            parts.push(text[begin..index].trim());
            begin = index + 1;
        }
    }
    parts.push(text[begin..].trim());
    parts
}

/// A text in quotes, of what hosts, ports and parameters consist of.
fn unquoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    inner.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')).then_some(inner)
}

/// A token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_understand_is_accepted_and_mistakes_are_not() {
        for valid in [
            "clear",
            r#"h3=":443""#,
            r#"h3="alt.example.com:8443"; ma=2592000; persist=1, h2=":443""#,
            r#"h3="[2001:db8::1]:443""#,
            r#"h3-29=":443"; v="46,43""#,
        ] {
            assert!(AlternativeServices::parse(valid).is_ok(), "{valid}");
        }
        let long = format!("h3=\"{}:443\"", "x".repeat(BYTES_MAX));
        for wrong in [
            "",
            "h3",
            "h3=:443",
            r#"h3="443""#,
            r#"h3=":0""#,
            r#"h3=":70000""#,
            r#"h3=":443",""#,
            r#"h3=":443"; ma"#,
            r#"="#,
            "h3=\":443\"\r\nx: y",
            r#"h3=":443"#,
            r#"h 3=":443""#,
            &long,
        ] {
            assert!(AlternativeServices::parse(wrong).is_err(), "{wrong}");
        }
    }
}
