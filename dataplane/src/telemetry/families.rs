//! Builds metric families in the Prometheus client's own types, for its text encoder.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::cells::{BUCKET_BOUNDS_MICROS, HistogramSum};

const MICROS_PER_SECOND: f64 = 1e6;

/// The families of one scrape.
#[derive(Debug, Default)]
pub struct Families(Vec<MetricFamily>);

/// Labels of one series: name and value.
pub type LabelSet<'a> = &'a [(&'a str, &'a str)];

impl Families {
    /// The families collected; those without any series are left out.
    pub fn into_vec(self) -> Vec<MetricFamily> {
        self.0
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.push(name, help, MetricType::COUNTER, vec![counter(&[], value)]);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.push(name, help, MetricType::GAUGE, vec![gauge(&[], value)]);
    }

    /// A family of counters.
    pub fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
    ) {
        let metrics = series
            .map(|(labels, value)| counter(&labels, value))
            .collect();
        self.push(name, help, MetricType::COUNTER, metrics);
    }

    /// A family of gauges.
    pub fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
    ) {
        let metrics = series
            .map(|(labels, value)| gauge(&labels, value))
            .collect();
        self.push(name, help, MetricType::GAUGE, metrics);
    }

    /// A latency histogram, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, sum: &HistogramSum) {
        let mut cumulative = 0;
        let mut buckets = Vec::new();
        for (bound, count) in BUCKET_BOUNDS_MICROS.iter().zip(&sum.counts) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(float(*bound) / MICROS_PER_SECOND);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(sum.counts.iter().sum());
        histogram.set_sample_sum(seconds(sum.sum_micros));
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.push(name, help, MetricType::HISTOGRAM, vec![metric]);
    }

    fn push(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

/// The nearest floating-point number, which is all that the exposition format knows.
#[expect(
    clippy::cast_precision_loss,
    reason = "the exposition format has floating-point samples only"
)]
pub fn float(value: u64) -> f64 {
    value as f64
}

/// A length as a number of series, resources, ...
pub fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The number of sample lines that `families` become in the text format.
pub fn series(families: &[MetricFamily]) -> usize {
    let lines = |metric: &Metric| match metric.get_histogram().get_bucket().len() {
        0 => 1,
        buckets => buckets + ["+Inf", "sum", "count"].len(),
    };
    families
        .iter()
        .flat_map(MetricFamily::get_metric)
        .map(lines)
        .sum()
}

/// Microseconds as seconds.
pub fn seconds(micros: u64) -> f64 {
    float(micros) / MICROS_PER_SECOND
}

fn counter(labels: LabelSet<'_>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_counter(counter);
    metric
}

fn gauge(labels: LabelSet<'_>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_gauge(gauge);
    metric
}

fn pairs(labels: LabelSet<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}
