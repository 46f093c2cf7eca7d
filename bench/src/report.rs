//! What a run has found: named figures, and faults that make it fail.

use std::{fmt, time::Duration};

use serde_json::{Map, Value, json};

/// The findings of one scenario.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What was run.
    pub scenario: String,
    /// In the order in which they are shown.
    pub figures: Vec<Figure>,
    /// What must not happen and has happened.
    pub faults: Vec<String>,
}

/// One number. Its name ends with its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// For machines: `latency_p50_ms`.
    pub name: String,
    /// In the unit of the name.
    pub value: f64,
}

impl Report {
    /// An empty report.
    pub fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), ..Self::default() }
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.push(Figure { name: name.to_owned(), value });
    }

    /// Adds a latency in milliseconds.
    pub fn milliseconds(&mut self, name: &str, value: Duration) {
        self.figure(&format!("{name}_ms"), value.as_secs_f64() * 1e3);
    }

    /// Adds a figure that must be zero.
    pub fn must_be_zero(&mut self, name: &str, value: u64) {
        self.figure(name, value as f64);
        if value > 0 {
            self.faults.push(format!("{name}: {value}"));
        }
    }

    /// The figure of that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// One JSON object.
    pub fn to_json(&self) -> Value {
        let figures: Map<_, _> =
            self.figures.iter().map(|figure| (figure.name.clone(), json!(figure.value))).collect();
        json!({"scenario": self.scenario, "figures": figures, "faults": self.faults})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
        for Figure { name, value } in &self.figures {
            writeln!(f, "  {:<width$}  {:>14}", name.replace('_', " "), number(*value))?;
        }
        for fault in &self.faults {
            writeln!(f, "  FAULT  {fault}")?;
        }
        Ok(())
    }
}

/// With four digits that count, and the thousands of large numbers set apart.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let whole = value.abs().log10().floor().max(0.0) as usize;
    let decimals = if value.fract() == 0.0 { 0 } else { 3usize.saturating_sub(whole) };
    let text = format!("{value:.decimals$}");
    let (digits, rest) = text.find('.').map_or((text.as_str(), ""), |at| text.split_at(at));
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let shown = [0.0, 0.1234, 12.3456, 123.0, 1_234.6, 1_234_567.0, -123_456.0].map(number);
        assert_eq!(shown, ["0", "0.123", "12.35", "123", "1,235", "1,234,567", "-123,456"]);
        assert_eq!(number(f64::NAN), "-");
    }

    #[test]
    fn what_must_be_zero_is_a_fault_otherwise() {
        let mut report = Report::new("x");
        report.must_be_zero("lost", 0);
        assert!(report.faults.is_empty());
        report.must_be_zero("duplicated", 2);
        assert_eq!(report.faults, ["duplicated: 2"]);
        assert_eq!(
            report.to_json().to_string(),
            r#"{"faults":["duplicated: 2"],"figures":{"duplicated":2.0,"lost":0.0},"scenario":"x"}"#
        );
        assert_eq!(report.value("lost"), Some(0.0));
    }
}
