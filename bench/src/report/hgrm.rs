//! The percentile distribution as text, as HdrHistogram's plotter reads it (`.hgrm`). Values are microseconds.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Steps for each halving of what is left to 100 %: the others' default.
const TICKS_PER_HALF: u32 = 5;

/// Writes a histogram of nanoseconds.
pub(crate) fn write(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    const NS_PER_US: f64 = 1000.0;
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        let value = step.value_iterated_to() as f64 / NS_PER_US;
        let quantile = step.quantile_iterated_to();
        count += step.count_since_last_iteration();
        if quantile < 1.0 {
            writeln!(out, "{value:>12.3} {quantile:>2.12} {count:>10} {:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{value:>12.3} {quantile:>2.12} {count:>10}")?;
        }
    }
    let (mean, stdev) = (histogram.mean() / NS_PER_US, histogram.stdev() / NS_PER_US);
    writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {stdev:>12.3}]")?;
    let (max, count) = (histogram.max() as f64 / NS_PER_US, histogram.len());
    writeln!(out, "#[Max     = {max:>12.3}, Total count    = {count:>12}]")?;
    let (buckets, length) =
        (histogram.buckets(), histogram.distinct_values() / usize::from(histogram.buckets()));
    writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {length:>12}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution() {
        let mut histogram = crate::report::histogram::empty();
        for us in 1..=100 {
            histogram.record(us * 1000).unwrap();
        }
        let mut out = Vec::new();
        write(&mut out, &histogram).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{text}");
        assert!(text.contains("0.500000000000         50           2.00\n"), "{text}");
        assert!(text.contains("Total count    =          100]"), "{text}");
    }
}
