//! The one response, and a block of copies of it from which every send is taken.
//!
//! The date is a constant too: the floor formats nothing. The bytes are as many as the measured server sends.

/// What answers every request.
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: text/html; charset=utf-8\r\n\
    content-length: 14\r\n\
    date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    \r\n\
    <h1>Index</h1>";

/// How many answers one send carries at most: 128 is some 16 KiB, more than any batch under measurement.
pub(crate) const ANSWERS_PER_SEND_MAX: u32 = 128;

/// The same answer over and over. Never written after start, so any number of sends may point into it at once.
pub(crate) fn block() -> &'static [u8] {
    ANSWER.repeat(ANSWERS_PER_SEND_MAX as usize).leak()
}
