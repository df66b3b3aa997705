//! The interval log: a histogram a second, in the format 1.3 that HdrHistogram's log readers take (`.hlog`).
//!
//! Values are nanoseconds, as with every log of HdrHistogram; the column of the maximum is in milliseconds.

use std::io::{self, Write};

use super::Slice;
use super::histogram::encode;

/// Writes what stands at the beginning.
pub(crate) fn write_head(out: &mut impl Write, started_unix_s: f64) -> io::Result<()> {
    writeln!(out, "#[Logged with annulet-bench {}]", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "#[Histogram log format version 1.3]")?;
    writeln!(out, "#[StartTime: {started_unix_s:.3} (seconds since epoch)]")?;
    writeln!(out, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")
}

/// Writes one interval; its start counts from the start of the log.
pub(crate) fn write_interval(out: &mut impl Write, slice: &Slice) -> io::Result<()> {
    let max_ms = slice.histogram.max() as f64 / 1e6;
    writeln!(out, "{:.3},{:.3},{max_ms:.3},{}", slice.start_s, slice.duration_s, encode(&slice.histogram))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn a_reader_finds_what_was_written() {
        let mut histogram = super::super::histogram::empty();
        histogram.record_n(2_000_000, 7).unwrap();
        let mut out = Vec::new();
        write_head(&mut out, 1_700_000_000.5).unwrap();
        write_interval(&mut out, &Slice { start_s: 1.0, duration_s: 1.0, errors: 0, histogram }).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&out).map(Result::unwrap).collect();
        let interval = entries.iter().find_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        });
        let interval = interval.expect("one interval was written");
        assert_eq!(interval.start_timestamp().as_secs_f64(), 1.0);
        let back = crate::report::histogram::decode(interval.encoded_histogram()).unwrap();
        assert_eq!((back.len(), back.equivalent(back.max(), 2_000_000)), (7, true));
    }
}
