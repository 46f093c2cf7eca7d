//! Metrics as text: the format of Prometheus (text, version 0.0.4) and OpenMetrics 1.0.

use std::fmt::Write as _;

use petasos_hub::metrics::Distribution;

use super::{
    samples::{Sample, Samples, Value},
    table::{FAMILIES, Family, Kind},
};

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers. Without one, and if both are as good, that of Prometheus.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = [None::<f32>; 2];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let slot = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => 1,
                "text/plain" | "text/*" | "*/*" => 0,
                _ => continue,
            };
            // A parameter that is malformed counts as absent.
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0_f32);
            best[slot] = Some(best[slot].map_or(quality, |best: f32| best.max(quality)));
        }
        match best {
            [plain, Some(open)] if open > 0.0 && open > plain.unwrap_or(0.0) => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The `Content-Type` of the format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// All metrics that have a value, in the order of the table.
    pub fn render(self, samples: &Samples) -> String {
        let mut text = String::with_capacity(TEXT_BYTES_EXPECTED);
        for family in FAMILIES {
            let mut samples = samples.of_family(family).peekable();
            if samples.peek().is_some() {
                self.describe(family, &mut text);
                samples.for_each(|sample| write_sample(sample, &mut text));
            }
        }
        if self == Self::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }

    fn describe(self, family: &Family, text: &mut String) {
        let Family { name, kind, help, .. } = family;
        let (name, kind) = match (self, kind) {
            (Self::Prometheus, Kind::Info) => (*name, "gauge"),
            (Self::Prometheus, kind) => (*name, kind.name()),
            // OpenMetrics names the metric without the end that its samples have.
            (Self::OpenMetrics, Kind::Counter) => (name.trim_end_matches("_total"), "counter"),
            (Self::OpenMetrics, Kind::Info) => (name.trim_end_matches("_info"), "info"),
            (Self::OpenMetrics, kind) => (*name, kind.name()),
        };
        line(text, format_args!("# TYPE {name} {kind}"));
        if let Some(unit) = family.unit().filter(|_| self == Self::OpenMetrics) {
            line(text, format_args!("# UNIT {name} {unit}"));
        }
        line(text, format_args!("# HELP {name} {help}"));
    }
}

/// All metrics of a hub in one text.
const TEXT_BYTES_EXPECTED: usize = 24 * 1024;

fn write_sample(sample: &Sample, text: &mut String) {
    let Sample { family: Family { name, labels, .. }, labels: values, value } = sample;
    let names = labels.iter().map(|label| label.name);
    let labels: Vec<_> =
        names.zip(values).map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    let all = match labels.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", labels.join(",")),
    };
    match value {
        Value::Count(count) => line(text, format_args!("{name}{all} {count}")),
        Value::Number(number) => line(text, format_args!("{name}{all} {number:?}")),
        Value::Distribution(Distribution { bounds, counts, sum }) => {
            let before: String = labels.iter().map(|label| format!("{label},")).collect();
            let mut total = 0;
            for (index, count) in counts.iter().enumerate() {
                total += count;
                let bound = bounds.get(index).map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
                line(text, format_args!("{name}_bucket{{{before}le=\"{bound}\"}} {total}"));
            }
            line(text, format_args!("{name}_sum{all} {sum:?}"));
            line(text, format_args!("{name}_count{all} {total}"));
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use petasos_hub::metrics::{ENTRIES, Histogram};

    use super::*;
    use crate::metrics::table::{
        APPEND_BATCH_SIZE, BUILD_INFO, PROCESS_CPU_SECONDS_TOTAL, TOPIC_UPDATES_TOTAL, UPDATES_TOTAL,
    };

    #[test]
    fn the_format_is_the_one_that_the_client_prefers() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("text/plain, application/openmetrics-text;q=0.9", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("text/html, Application/OpenMetrics-Text; q=0.2, text/plain;q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text;q=x", Format::OpenMetrics),
            (";;,,q=", Format::Prometheus),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }

    fn samples() -> Samples {
        let mut samples = Samples::default();
        samples.push(&UPDATES_TOTAL, &[], 3_u64);
        samples.push(&BUILD_INFO, &["1.0"], true);
        samples.push(&PROCESS_CPU_SECONDS_TOTAL, &[], 1.5);
        samples.push(&TOPIC_UPDATES_TOTAL, &["a\"\\\n{b}"], 1_u64);
        let histogram = Histogram::new(&ENTRIES);
        histogram.record(2);
        histogram.record(5_000);
        samples.push(&APPEND_BATCH_SIZE, &[], histogram.snapshot());
        samples
    }

    #[test]
    fn each_metric_has_its_lines_in_both_formats() {
        let text = Format::Prometheus.render(&samples());
        for expected in [
            "# TYPE mercure_updates_total counter\n# HELP mercure_updates_total ",
            "\nmercure_updates_total 3\n",
            "# TYPE petasos_build_info gauge\n",
            "\npetasos_build_info{version=\"1.0\"} 1\n",
            "\npetasos_topic_updates_total{group=\"a\\\"\\\\\\n{b}\"} 1\n",
            "\npetasos_append_batch_size_bucket{le=\"1.0\"} 0\npetasos_append_batch_size_bucket{le=\"2.0\"} 1\n",
            "\npetasos_append_batch_size_bucket{le=\"+Inf\"} 2\npetasos_append_batch_size_sum 5002.0\n\
             petasos_append_batch_size_count 2\n",
            "\nprocess_cpu_seconds_total 1.5\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        assert!(!text.contains("petasos_log_up"), "what has no value is not shown");
        let text = Format::OpenMetrics.render(&samples());
        for expected in [
            "# TYPE mercure_updates counter\n# HELP mercure_updates ",
            "\nmercure_updates_total 3\n",
            "# TYPE petasos_build info\n",
            "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }
}
