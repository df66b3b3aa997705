//! Range requests: which bytes of a content are asked for (RFC 9110 section 14). Pure.
use std::ops::Range;

/// More ranges than this in one request are not served apart: it gets the whole. Arbitrary; players and download tools send one.
const RANGES_MAX: usize = 16;

/// What a Range field comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it: the field is none that we know, or asks for more than there is in sum.
    Whole,
    /// These bytes, in the order of the field; at least one range, none empty.
    Ranges(Vec<Range<u64>>),
    /// Nothing that exists: 416.
    Nothing,
}

/// Reads the value of a Range field for a content of `len` bytes.
pub(super) fn parse(value: &[u8], len: u64) -> Asked {
    let Some(specs) = str::from_utf8(value).ok().and_then(|value| {
        // Spaces behind the sign are in an example of RFC 9110 section 14.1.2; before it there are none.
        let (unit, specs) = value.split_once('=')?;
        unit.eq_ignore_ascii_case("bytes").then_some(specs)
    }) else {
        return Asked::Whole;
    };
    let mut ranges = Vec::new();
    let mut sum = 0u64;
    for (nth, spec) in specs.split(',').map(str::trim).filter(|spec| !spec.is_empty()).enumerate() {
        // RFC 9110 section 14.2: a malformed field is ignored.
        let Some(range) = parse_one(spec, len) else { return Asked::Whole };
        // Many ranges, or such that overlap, are how servers are made to send much for little (section 17.15).
        match sum.checked_add(range.end - range.start) {
            Some(more) if nth < RANGES_MAX && more <= len => sum = more,
            _ => return Asked::Whole,
        }
        if !range.is_empty() {
            ranges.push(range);
        }
    }
    if ranges.is_empty() { Asked::Nothing } else { Asked::Ranges(ranges) }
}

/// One range; empty if it lies beyond the end. `None` if it is malformed, or all of nothing.
fn parse_one(spec: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A number beyond 64 bits lies beyond every end.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let count = number(last)?;
        // The end of an empty content can be had (RFC 9110 section 14.1.2), but no Content-Range can say so.
        return (len > 0 || count == 0).then(|| len.saturating_sub(count)..len);
    }
    let first = number(first)?;
    let end = if last.is_empty() { len } else { number(last)?.saturating_add(1) };
    if end <= first && !last.is_empty() {
        return None;
    }
    Some(if first < len { first..end.min(len) } else { 0..0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let check =
            |value: &str, expected: Asked| assert_eq!(parse(value.as_bytes(), 10), expected, "{value:?}");
        let one = |range: Range<u64>| Asked::Ranges(vec![range]);
        check("bytes=0-0", one(0..1));
        check("bytes=2-4", one(2..5));
        check("bytes=2-", one(2..10));
        check("bytes=-3", one(7..10));
        check("bytes=-30", one(0..10));
        check("bytes=0-99", one(0..10));
        check("bytes=0-18446744073709551615", one(0..10));
        check("bytes=0-99999999999999999999999", one(0..10));
        check("Bytes= 1-1 , 3-4,", Asked::Ranges(vec![1..2, 3..5]));
        check("bytes =1-1", Asked::Whole);
        check("bytes=8-9,0-1", Asked::Ranges(vec![8..10, 0..2]));
        check("bytes=0-1,20-", one(0..2));
        check("bytes=10-", Asked::Nothing);
        check("bytes=10-12", Asked::Nothing);
        check("bytes=99999999999999999999999-", Asked::Nothing);
        check("bytes=-0", Asked::Nothing);
        check("bytes=", Asked::Nothing);
        check("bytes=4-2", Asked::Whole);
        check("bytes=a-b", Asked::Whole);
        check("bytes=1", Asked::Whole);
        check("bytes=-", Asked::Whole);
        check("bytes=--1", Asked::Whole);
        check("bytes=+1-2", Asked::Whole);
        check("bytes=1 -2", Asked::Whole);
        check("lines=0-1", Asked::Whole);
        check("bytes", Asked::Whole);
        check("bytes=0-9,0-9", Asked::Whole);
        check("bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9", {
            Asked::Ranges((0..10).map(|at| at..at + 1).collect())
        });
        assert_eq!(parse(format!("bytes={}", "0-0,".repeat(17)).as_bytes(), 100), Asked::Whole);
        // More in sum than 64 bits hold.
        assert_eq!(parse(b"bytes=8-94,50-", u64::MAX), Asked::Whole);
        assert_eq!(parse(b"bytes=0-", 0), Asked::Nothing);
        assert_eq!(parse(b"bytes=-0", 0), Asked::Nothing);
        assert_eq!(parse(b"bytes=-5", 0), Asked::Whole);
        assert_eq!(parse(b"bytes=0-,-5", 0), Asked::Whole);
        assert_eq!(parse(b"bytes=\xff", 10), Asked::Whole);
    }
}
