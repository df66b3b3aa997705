//! The bytes of requests: made once, before the clock starts. Sending one is copying it, unless it has a counter or a random
//! number in it.
//!
//! `{counter}` stands for a number that no two requests share; `{random:A-B}` for a number from A to B, both included. They may
//! stand in the path, in header values and in the body, whose Content-Length follows them.

use std::io::Write as _;

use crate::exit::Failure;

/// What requests are made of.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) host: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) is_http_1_0: bool,
}

/// The requests of a run, in the order in which they are sent.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    requests: Vec<Request>,
    /// Indices into `requests`, one cycle of the weights.
    order: Vec<u16>,
    /// Whether one request without placeholders is all there is.
    is_one_constant: bool,
}

/// A cycle of weights is no longer than this: arbitrary, percents fit.
pub(crate) const WEIGHTS_SUM_MAX: u32 = 1000;

#[derive(Clone, Debug)]
struct Request {
    head: Vec<Part>,
    body: Vec<Part>,
    is_head: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Counter,
    Random(u64, u64),
    /// The length of the body, where that has placeholders.
    BodyLength,
}

/// Where one core stands in the requests.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: usize,
    counter: u64,
    counter_step: u64,
    rng: fastrand::Rng,
    /// A body with placeholders, written out to learn its length.
    body: Vec<u8>,
}

impl Cursor {
    /// For core `index` of `cores`: their counters do not meet.
    pub(crate) fn new(index: usize, cores: usize, seed: u64) -> Cursor {
        Cursor {
            next: 0,
            counter: index as u64,
            counter_step: cores as u64,
            // Not the stream of numbers that the schedule of the same core draws from.
            rng: fastrand::Rng::with_seed(seed.wrapping_add(index as u64) ^ 0x5bd1_e995_9e37_79b9),
            body: Vec::new(),
        }
    }
}

impl Wire {
    /// One request per message, sent in proportion to the weights.
    ///
    /// # Errors
    ///
    /// A placeholder that is none.
    pub(crate) fn new(messages: &[Message<'_>], weights: &[u32]) -> Result<Wire, Failure> {
        debug_assert_eq!(messages.len(), weights.len());
        let requests = messages.iter().map(Request::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Wire::of(requests, weights))
    }

    /// Requests byte for byte, in turn.
    pub(crate) fn raw(files: Vec<Vec<u8>>) -> Wire {
        let weights = vec![1; files.len()];
        let requests = files.into_iter().map(|bytes| Request {
            is_head: bytes.starts_with(b"HEAD "),
            head: vec![Part::Bytes(bytes)],
            body: Vec::new(),
        });
        Wire::of(requests.collect(), &weights)
    }

    fn of(requests: Vec<Request>, weights: &[u32]) -> Wire {
        let order = spread(weights);
        let is_one_constant = requests.len() == 1
            && requests[0].body.is_empty()
            && matches!(requests[0].head[..], [Part::Bytes(_)]);
        Wire { requests, order, is_one_constant }
    }

    /// Appends the next request to `out`. Gives whether it is a HEAD request.
    #[inline]
    pub(crate) fn write(&self, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
        if self.is_one_constant
            && let [Request { head, is_head, .. }] = &self.requests[..]
            && let [Part::Bytes(bytes)] = &head[..]
        {
            out.extend_from_slice(bytes);
            return *is_head;
        }
        let request = &self.requests[usize::from(self.order[cursor.next])];
        cursor.next = if cursor.next + 1 == self.order.len() { 0 } else { cursor.next + 1 };
        request.write(cursor, out);
        cursor.counter += cursor.counter_step;
        request.is_head
    }
}

impl Request {
    fn new(message: &Message<'_>) -> Result<Request, Failure> {
        let &Message { method, target, host, headers, body, is_http_1_0 } = message;
        let body = match body {
            Some(body) => parts(body)?,
            None => Vec::new(),
        };
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let version = if is_http_1_0 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut head = parts(format!("{method} {target} {version}\r\n").as_bytes())?;
        if !has("host") {
            append(&mut head, Part::Bytes(format!("Host: {host}\r\n").into_bytes()));
        }
        for (name, value) in headers {
            let line = parts(format!("{name}: {value}\r\n").as_bytes())?;
            line.into_iter().for_each(|part| append(&mut head, part));
        }
        let constant = match &body[..] {
            [] => Some(None),
            [Part::Bytes(bytes)] => Some(Some(bytes.clone())),
            _ => None,
        };
        if message.body.is_some() && !has("content-length") && !has("transfer-encoding") {
            append(&mut head, Part::Bytes(b"Content-Length: ".to_vec()));
            append(
                &mut head,
                match &constant {
                    Some(bytes) => Part::Bytes(bytes.as_ref().map_or(0, Vec::len).to_string().into_bytes()),
                    None => Part::BodyLength,
                },
            );
            append(&mut head, Part::Bytes(b"\r\n".to_vec()));
        }
        append(&mut head, Part::Bytes(b"\r\n".to_vec()));
        let body = match constant {
            Some(bytes) => {
                append(&mut head, Part::Bytes(bytes.unwrap_or_default()));
                Vec::new()
            }
            None => body,
        };
        Ok(Request { head, body, is_head: method == "HEAD" })
    }

    fn write(&self, cursor: &mut Cursor, out: &mut Vec<u8>) {
        let mut body = std::mem::take(&mut cursor.body);
        body.clear();
        self.body.iter().for_each(|part| part.write(cursor, 0, &mut body));
        self.head.iter().for_each(|part| part.write(cursor, body.len(), out));
        out.extend_from_slice(&body);
        cursor.body = body;
    }
}

impl Part {
    fn write(&self, cursor: &mut Cursor, body_len: usize, out: &mut Vec<u8>) {
        let number = match self {
            Part::Bytes(bytes) => return out.extend_from_slice(bytes),
            Part::Counter => cursor.counter,
            Part::Random(from, to) => cursor.rng.u64(from..=to),
            Part::BodyLength => body_len as u64,
        };
        write!(out, "{number}").expect("a vector takes every byte");
    }
}

/// Adds a part; bytes that meet become one.
fn append(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Bytes(before)), Part::Bytes(bytes)) => before.extend_from_slice(&bytes),
        (_, Part::Bytes(bytes)) if bytes.is_empty() => {}
        (_, part) => parts.push(part),
    }
}

/// Splits at `{counter}` and `{random:A-B}`. Other braces are left alone: bodies are full of them.
fn parts(text: &[u8]) -> Result<Vec<Part>, Failure> {
    const COUNTER: &[u8] = b"{counter}";
    const RANDOM: &[u8] = b"{random:";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| b == b'{') {
        let (before, brace) = rest.split_at(at);
        append(&mut found, Part::Bytes(before.to_vec()));
        if let Some(after) = brace.strip_prefix(COUNTER) {
            found.push(Part::Counter);
            rest = after;
        } else if let Some(after) = brace.strip_prefix(RANDOM) {
            let end = after.iter().position(|&b| b == b'}');
            let range = end.and_then(|end| parse_range(&after[..end]));
            let (Some(end), Some((from, to))) = (end, range) else {
                let shown = String::from_utf8_lossy(&brace[..brace.len().min(40)]).into_owned();
                return Err(Failure::usage(format!("{shown}: write a range as in {{random:1-1000}}")));
            };
            found.push(Part::Random(from, to));
            rest = &after[end + 1..];
        } else {
            append(&mut found, Part::Bytes(b"{".to_vec()));
            rest = &brace[1..];
        }
    }
    append(&mut found, Part::Bytes(rest.to_vec()));
    Ok(found)
}

fn parse_range(text: &[u8]) -> Option<(u64, u64)> {
    let (from, to) = std::str::from_utf8(text).ok()?.split_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some((from, to))
}

/// One cycle in which each index comes as often as its weight says, spread as evenly as can be (smooth weighted round-robin).
fn spread(weights: &[u32]) -> Vec<u16> {
    let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
    let mut credit = vec![0i64; weights.len()];
    (0..sum)
        .map(|_| {
            credit.iter_mut().zip(weights).for_each(|(credit, &weight)| *credit += i64::from(weight));
            let best = (0..credit.len()).rev().max_by_key(|&index| credit[index]).unwrap_or(0);
            credit[best] -= sum;
            best as u16
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Message<'static> =
        Message { method: "GET", target: "/", host: "a:80", headers: &[], body: None, is_http_1_0: false };

    fn check(message: &Message<'_>, expected: &str) {
        let wire = Wire::new(std::slice::from_ref(message), &[1]).unwrap();
        let mut out = Vec::new();
        wire.write(&mut Cursor::new(0, 1, 0), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn requests() {
        let header = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
        check(&PLAIN, "GET / HTTP/1.1\r\nHost: a:80\r\n\r\n");
        check(&Message { is_http_1_0: true, ..PLAIN }, "GET / HTTP/1.0\r\nHost: a:80\r\n\r\n");
        check(&Message { headers: &header("host", "b"), ..PLAIN }, "GET / HTTP/1.1\r\nhost: b\r\n\r\n");
        check(
            &Message { method: "POST", body: Some(b"{}"), ..PLAIN },
            "POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 2\r\n\r\n{}",
        );
        check(
            &Message { body: Some(b""), ..PLAIN },
            "GET / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 0\r\n\r\n",
        );
        check(
            &Message {
                body: Some(b"2\r\nhi\r\n0\r\n\r\n"),
                headers: &header("Transfer-Encoding", "chunked"),
                ..PLAIN
            },
            "GET / HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        );
    }

    #[test]
    fn counters_of_cores_do_not_meet() {
        let message = Message { target: "/{counter}", body: Some(b"n={counter}"), ..PLAIN };
        let wire = Wire::new(&[message], &[1]).unwrap();
        let of = |index, nth: usize| {
            let mut cursor = Cursor::new(index, 2, 0);
            let mut out = Vec::new();
            for _ in 0..=nth {
                out.clear();
                wire.write(&mut cursor, &mut out);
            }
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(1, 0), "GET /1 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\nn=1");
        assert_eq!(of(0, 5), "GET /10 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 4\r\n\r\nn=10");
    }

    #[test]
    fn random_numbers_stay_in_their_range_and_follow_the_seed() {
        let wire = Wire::new(&[Message { target: "{random:7-9}", ..PLAIN }], &[1]).unwrap();
        let digits = |seed| {
            let mut cursor = Cursor::new(0, 1, seed);
            let draw = |_| {
                let mut out = Vec::new();
                wire.write(&mut cursor, &mut out);
                char::from(out[4])
            };
            (0..50).map(draw).collect::<String>()
        };
        assert!(digits(1).chars().all(|digit| ('7'..='9').contains(&digit)), "{}", digits(1));
        assert!(['7', '8', '9'].iter().all(|&digit| digits(1).contains(digit)), "{}", digits(1));
        assert_eq!(digits(1), digits(1));
        assert_ne!(digits(1), digits(2));
    }

    #[test]
    fn ranges_that_are_none() {
        let check = |text: &str| assert!(parts(text.as_bytes()).is_err(), "{text}");
        check("{random:}");
        check("{random:3}");
        check("{random:3-1}");
        check("{random:a-b}");
        check("{random:1-2");
        assert_eq!(parts(b"{\"a\": {}}").unwrap(), [Part::Bytes(b"{\"a\": {}}".to_vec())]);
    }

    #[test]
    fn weights_are_spread() {
        assert_eq!(spread(&[1]), [0]);
        assert_eq!(spread(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(spread(&[1, 1, 1]), [0, 1, 2]);
    }

    #[test]
    fn raw_requests_go_out_as_they_are() {
        let wire =
            Wire::raw(vec![b"GET /{counter} HTTP/1.1\r\n\r\n".to_vec(), b"HEAD / HTTP/1.1\r\n\r\n".to_vec()]);
        let mut cursor = Cursor::new(0, 1, 0);
        let mut out = Vec::new();
        let heads = [(); 3].map(|()| wire.write(&mut cursor, &mut out));
        assert_eq!(heads, [false, true, false]);
        assert!(out.starts_with(b"GET /{counter} HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET"));
    }
}
