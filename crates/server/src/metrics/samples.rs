//! The values of metrics at one moment.

use petasos_hub::metrics::Distribution;

use super::table::Family;

/// The values of metrics at one moment, gathered from all parts of a hub and of its process.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) family: &'static Family,
    /// The values of its labels, in the order of the table.
    pub(crate) labels: Vec<String>,
    pub(crate) value: Value,
}

/// One value.
#[derive(Debug)]
pub enum Value {
    /// A whole number.
    Count(u64),
    /// Any other number.
    Number(f64),
    /// The values of a histogram.
    Distribution(Distribution),
}

impl Samples {
    /// Adds a value of a metric, with the values of its labels in the order of the table.
    ///
    /// # Panics
    /// If the metric has another number of labels.
    pub fn push(&mut self, family: &'static Family, labels: &[&str], value: impl Into<Value>) {
        assert_eq!(labels.len(), family.labels.len(), "{} has other labels", family.name);
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.0.push(Sample { family, labels, value: value.into() });
    }

    /// The values of one metric.
    pub(crate) fn of_family(&self, family: &'static Family) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| std::ptr::eq(sample.family, family))
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

/// 1 or 0.
impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Self::Count(is_so.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Distribution> for Value {
    fn from(distribution: Distribution) -> Self {
        Self::Distribution(distribution)
    }
}
