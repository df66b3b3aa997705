//! Every bound of the protocol layer, with its unit, its default and what happens at it.
use std::time::Duration;

/// What one connection may ask of the server. More limits may come: begin with the [default](Limits::default) ones, as here.
///
/// A time of zero is over at once, it does not stand for none: where nothing is to be limited, give a long one.
///
/// # Examples
///
/// ```
/// use annulet_http::Limits;
///
/// let limits = Limits { body_bytes: 64 * 1024, ..Limits::default() };
/// assert_eq!(limits.head_bytes, 16 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header fields together, in bytes. Beyond: 431. At most [`Limits::HEAD_BYTES_MAX`].
    pub head_bytes: usize,
    /// The request target, in bytes. Beyond: 414.
    pub target_bytes: usize,
    /// A header field line without its end, in bytes. Beyond: 431.
    pub line_bytes: usize,
    /// The number of header field lines, and of those in a trailer section. Beyond: 431. At most [`Limits::HEADERS_MAX`].
    pub headers: usize,
    /// The content of one request, in bytes, chunk framing not counted. Beyond: 413.
    pub body_bytes: u64,
    /// All chunk extensions of one body, in bytes. Beyond: 400.
    pub chunk_extension_bytes: u32,
    /// The trailer section of one body, in bytes. Beyond: 431.
    pub trailer_bytes: u32,
    /// What is read and thrown away of a body that its handler did not want, in bytes. A longer rest closes the connection.
    pub drain_bytes: u64,
    /// From the first byte of a head to its last. Beyond: 408.
    pub head_timeout: Duration,
    /// Between two arrivals of body bytes. Beyond: 408. A handler that gives a wait up (`select` with another future) and asks again begins
    /// it anew; `body_rate_min` and `body_total_timeout` count all of them. Of a body that its handler did not want, for the rest as a
    /// whole. Beyond: the connection is closed.
    pub body_timeout: Duration,
    /// All waits for the bytes of one body together; the time that the handler takes does not count. Beyond: 408.
    pub body_total_timeout: Duration,
    /// What the bytes of one body have to come to, in bytes a second of waiting for them, after the first
    /// [`body_rate_grace`](Limits::body_rate_grace). Slower: 408. Zero: no such limit.
    pub body_rate_min: u32,
    /// Waiting for a body that does not count for [`body_rate_min`](Limits::body_rate_min).
    pub body_rate_grace: Duration,
    /// Between the last answer (or the accept) and the first byte of a head. Beyond: the connection is closed without a word.
    pub keep_alive_timeout: Duration,
    /// How long answers may wait for a client that takes none of them, also beside a handler that works. Beyond: the connection is
    /// reset. Any progress, by what its kernel acknowledges, starts it again: who takes a little is never cut, however long it takes.
    /// While answers wait, neither `keep_alive_timeout` nor `linger` runs. On an idle connection what waits in this kernel counts as
    /// well, so it is to be longer than some round trips to the client.
    pub write_timeout: Duration,
    /// What the kernel takes of answers for a client that is not ready for them, in bytes (TCP_NOTSENT_LOWAT of tcp(7)); beyond, they
    /// wait here. What is under way to the client does not count, so it slows nobody down who reads. Set on listeners that the server
    /// is given; zero: as the system has it, which is up to some megabytes for a client that reads nothing.
    pub unsent_bytes: u32,
    /// How long a closing connection goes on reading, so that the last answer is not lost to a reset (RFC 9112 section 9.6).
    pub linger: Duration,
    /// Requests on one connection, one at least; the last answer closes it. `u32::MAX`: no such limit.
    pub requests_per_connection: u32,
    /// Connections of one core. Beyond: 503, and closed at once.
    pub connections: usize,
    /// Connections of one core from one client address; of IPv6 from one network of 64 bits, for a client has no less. Beyond: 429, and
    /// closed at once. `u32::MAX`: no such limit, and addresses are not asked for. At least 1.
    pub connections_per_address: u32,
    /// What all connections of a core may hold in memory together, in bytes: unfinished heads, bytes received ahead, collected
    /// bodies, answers that wait for slow clients (and with them whatever else waits in send buffers of this core), records of TLS that
    /// are not whole. Beyond: 503 to whoever needs more. Each connection has a little in any case: 4 KiB that were received, and one answer of up to 4 KiB; so what
    /// there can be in all is this and some 8 KiB for each of `connections`. Files pass by, except over TLS.
    pub memory_bytes: usize,
}

impl Limits {
    /// Header offsets are kept in 16 bits.
    pub const HEAD_BYTES_MAX: usize = u16::MAX as usize;
    /// The parser's table lives on the stack: 128 entries of 32 bytes are one page.
    pub const HEADERS_MAX: usize = 128;

    /// The same limits, with those that have a hard maximum or minimum brought to it.
    #[must_use]
    pub fn clamped(mut self) -> Limits {
        self.head_bytes = self.head_bytes.min(Limits::HEAD_BYTES_MAX);
        self.target_bytes = self.target_bytes.min(self.head_bytes);
        self.headers = self.headers.min(Limits::HEADERS_MAX);
        self.requests_per_connection = self.requests_per_connection.max(1);
        self.connections_per_address = self.connections_per_address.max(1);
        self
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 16 * 1024,
            target_bytes: 8 * 1024, // RFC 9110 section 4.1 asks for at least 8000
            line_bytes: 8 * 1024,   // as nginx and Apache have it
            headers: 100,
            body_bytes: 2 * 1024 * 1024,
            chunk_extension_bytes: 1024, // arbitrary: nobody sends any
            trailer_bytes: 4 * 1024,
            drain_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_total_timeout: Duration::from_secs(300),
            keep_alive_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            unsent_bytes: 16 * 1024,
            linger: Duration::from_secs(2),
            // A modem's tenth; below it a client is stuck or hostile.
            body_rate_min: 240,
            body_rate_grace: Duration::from_secs(5),
            requests_per_connection: u32::MAX,
            connections: 65_536,
            connections_per_address: u32::MAX,
            memory_bytes: 256 * 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would refuse everybody, and have an entry made for each address that asks, or close what nobody has used.
    #[test]
    fn there_is_one_of_each_at_least() {
        let nothing = Limits { requests_per_connection: 0, connections_per_address: 0, ..Limits::default() };
        let clamped = nothing.clamped();
        assert_eq!((clamped.requests_per_connection, clamped.connections_per_address), (1, 1));
    }
}
