//! Range fields: what is sent lies in the content, and is no more than the content.
#[allow(dead_code)]
#[path = "../../src/files/range.rs"]
mod field;

use field::{Asked, parse};

pub(super) fn check_input(input: &[u8]) {
    for len in [0, 1, 10, 1000, u64::MAX - 1, u64::MAX] {
        check(input, len);
    }
}

fn check(value: &[u8], len: u64) {
    let Asked::Ranges(ranges) = parse(value, len) else { return };
    assert!((1..=16).contains(&ranges.len()));
    let mut sum = 0u64;
    for range in &ranges {
        assert!(range.start < range.end && range.end <= len, "{range:?} of {len}");
        sum = sum.checked_add(range.end - range.start).expect("less than the content");
    }
    assert!(sum <= len);
    // The same, read by somebody else: whatever is asked for stands there as a number.
    let text = str::from_utf8(value).expect("a value with ranges is ASCII");
    let (unit, specs) = text.split_once('=').expect("a unit");
    assert_eq!(unit.trim().to_ascii_lowercase(), "bytes");
    let mut specs = specs.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    for range in ranges {
        let stands = specs.by_ref().any(|spec| stands_for(spec, len) == Some(range.clone()));
        assert!(stands, "{range:?} is not asked for by {text:?}");
    }
}

fn stands_for(spec: &str, len: u64) -> Option<std::ops::Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    // As wide as any number that is shorter than forty digits.
    let number = |text: &str| {
        text.trim_start_matches('0')
            .parse::<u128>()
            .or(if text.trim_start_matches('0').is_empty() { Ok(0) } else { Ok::<_, ()>(u128::MAX) })
            .ok()
    };
    let wide = u128::from(len);
    let (start, end) = match (first, last) {
        ("", last) => (wide.saturating_sub(number(last)?), wide),
        (first, "") => (number(first)?, wide),
        (first, last) => (number(first)?, number(last)?.saturating_add(1).min(wide)),
    };
    (start < end).then_some(())?;
    Some(start as u64..end as u64)
}
