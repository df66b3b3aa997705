//! Histograms as text: the V2 compressed encoding of HdrHistogram in base64, which every HdrHistogram tool reads.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Latencies are kept in nanoseconds, from one to an hour, with three significant digits.
pub(crate) const NS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds. All of the instrument's histograms are alike, so that they can be added.
pub(crate) fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NS_MAX, DIGITS)
        .expect("the bounds are in order and the digits between 0 and 5")
}

/// A text that is no histogram.
#[derive(Debug)]
pub(crate) struct NotAHistogram(String);

impl fmt::Display for NotAHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an HdrHistogram in base64: {}", self.0)
    }
}

impl std::error::Error for NotAHistogram {}

/// As base64 of the V2 encoding, deflated.
pub(crate) fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a vector takes every byte, and the counts are below 2^63");
    STANDARD.encode(bytes)
}

/// The reverse of [`encode`].
///
/// # Errors
///
/// When the text is not base64, or what it encodes is not a histogram.
pub(crate) fn decode(text: &str) -> Result<Histogram<u64>, NotAHistogram> {
    let bytes = STANDARD.decode(text).map_err(|error| NotAHistogram(error.to_string()))?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| NotAHistogram(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut histogram = empty();
        for value in [1, 1_000, 25_000, 25_000, 1_000_000_000, NS_MAX] {
            histogram.record(value).unwrap();
        }
        let text = encode(&histogram);
        assert!(text.starts_with("HISTF"), "the prefix that other tools know it by: {text}");
        let back = decode(&text).unwrap();
        assert_eq!(back, histogram);
        assert_eq!(encode(&empty()), encode(&decode(&encode(&empty())).unwrap()));
    }

    #[test]
    fn what_is_none() {
        let check = |text: &str| assert!(decode(text).is_err(), "{text:?}");
        check("");
        check("?");
        check("aGVsbG8=");
        check(&encode(&empty())[..20]);
    }
}
