//! The Date field of answers, written once a second (RFC 9110 section 6.6.1).
//!
//! Reads no clock: the caller passes the loop's monotonic time, and a way to ask for the time of day that is used once a second.
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::h1::encode::DATE_END_BYTES;

/// The last line written, and until when it is good.
#[derive(Clone, Debug)]
pub struct DateCache {
    line: [u8; DATE_END_BYTES],
    /// `None` before the first use.
    good_until: Option<Instant>,
}

impl DateCache {
    /// A cache that asks for the time of day at its first use.
    #[must_use]
    pub const fn new() -> DateCache {
        DateCache { line: *b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n", good_until: None }
    }

    /// The line for `now`, and the empty line that ends a head. `time_of_day` is called when a new second has begun.
    #[inline]
    pub fn line(&mut self, now: Instant, time_of_day: impl FnOnce() -> SystemTime) -> &[u8; DATE_END_BYTES] {
        if self.good_until.is_none_or(|until| now >= until) {
            self.renew(now, time_of_day());
        }
        &self.line
    }

    #[cold]
    fn renew(&mut self, now: Instant, time_of_day: SystemTime) {
        // A clock before 1970 is a clock that was never set: the epoch is as good as any other wrong date.
        let since_epoch = time_of_day.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second_end = Duration::from_nanos(1_000_000_000 - u64::from(since_epoch.subsec_nanos()));
        let whole = UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs());
        // Fails only for years beyond 9999, where it leaves the line as it was.
        let _ = write!(&mut self.line[6..35], "{}", httpdate::HttpDate::from(whole));
        self.good_until = Some(now + second_end);
    }
}

impl Default for DateCache {
    fn default() -> DateCache {
        DateCache::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_once_a_second() {
        let start = Instant::now();
        let epoch_ms = 784_111_777_250;
        let mut cache = DateCache::new();
        let mut asked = 0;
        let mut check = |after_ms: u64, expected: &str, expected_asked: u32| {
            let line = *cache.line(start + Duration::from_millis(after_ms), || {
                asked += 1;
                UNIX_EPOCH + Duration::from_millis(epoch_ms + after_ms)
            });
            assert_eq!(std::str::from_utf8(&line), Ok(format!("date: {expected} GMT\r\n\r\n").as_str()));
            assert_eq!(asked, expected_asked, "after {after_ms} ms");
        };
        check(0, "Sun, 06 Nov 1994 08:49:37", 1);
        check(749, "Sun, 06 Nov 1994 08:49:37", 1);
        check(750, "Sun, 06 Nov 1994 08:49:38", 2);
        check(1749, "Sun, 06 Nov 1994 08:49:38", 2);
        check(9000, "Sun, 06 Nov 1994 08:49:46", 3);
    }
}
