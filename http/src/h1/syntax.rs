//! Character classes and the small pieces of grammar that several modules share. Tables are built at compile time.
use std::net::Ipv6Addr;

/// Allowed in the path of a request target.
pub(super) const PATH: u8 = 1;
/// Allowed in the query of a request target.
pub(super) const QUERY: u8 = 2;
/// A token character (RFC 9110 section 5.6.2).
pub(super) const TOKEN: u8 = 4;
/// A registered name or IPv4 address in Host: unreserved and sub-delims, without the comma.
pub(super) const HOST: u8 = 8;
/// A visible character, space, tab or obs-text: what a field value is made of (RFC 9110 section 5.5).
pub(super) const VALUE: u8 = 16;

/// As `PATH`, without the `%`.
pub(super) const PATH_PLAIN: u8 = 32;

/// Which classes each byte belongs to.
pub(super) static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut class = 0;
        if b == b'\t' || b == b' ' || b.is_ascii_graphic() || b >= 0x80 {
            class |= VALUE;
        }
        if b.is_ascii_alphanumeric() || contains(b"!#$%&'*+-.^_`|~", b) {
            class |= TOKEN;
        }
        // RFC 3986 section 3.3: pchar and "/". Beyond it "[", "]" and "|", which the URL standard lets every browser send as
        // they are. A "%" is looked at again, with the digits that have to follow.
        if b.is_ascii_alphanumeric() || contains(b"-._~!$&'()*+,;=:@/%[]|", b) {
            class |= PATH;
            if b != b'%' {
                class |= PATH_PLAIN;
            }
        }
        // RFC 3986 section 3.4, and what the URL standard's query set leaves unencoded. Not `"`, `#`, `<`, `>`.
        if class & PATH != 0 || contains(b"?\\^`{}", b) {
            class |= QUERY;
        }
        // The comma is legal in a reg-name, but what arrives with one is two Host fields that something joined.
        if b.is_ascii_alphanumeric() || contains(b"-._~!$&'()*+;=", b) {
            class |= HOST;
        }
        table[i] = class;
        i += 1;
    }
    table
}

const fn contains(set: &[u8], b: u8) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether every byte is in the class.
pub(super) fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&b| CLASS[usize::from(b)] & class != 0)
}

/// Whether two slices are equal: without a call, for such as are short.
#[inline(always)]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if one.len() < 8 {
        return one.iter().zip(other).all(|(a, b)| a == b);
    }
    // Eight bytes are compared as one word. The last word overlaps the one before it.
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    words.into_iter().all(|(a, b)| a == b) && one.last_chunk::<8>() == other.last_chunk::<8>()
}

/// Whether two hexadecimal digits follow every `%`.
pub(super) fn escapes_are_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'%', rest) {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return false,
        }
    }
    true
}

/// Whether this is `uri-host [ ":" port ]` (RFC 9110 section 7.2). Empty is allowed: a target without authority has it so.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let Ok(address) = std::str::from_utf8(&rest[..end]) else { return false };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            (&[][..], &rest[end + 1..])
        }
        _ => value.split_at(value.iter().position(|&b| b == b':').unwrap_or(value.len())),
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    port_is_good && (all(host, HOST) || is_escaped_host(host))
}

fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0, |port, b| port * 10 + u32::from(b - b'0')) <= u32::from(u16::MAX)
}

/// A registered name with percent-encoded bytes: legal and rare, hence apart.
#[cold]
fn is_escaped_host(host: &[u8]) -> bool {
    host.iter().all(|&b| b == b'%' || CLASS[usize::from(b)] & HOST != 0) && escapes_are_whole(host)
}

/// The members of a comma-separated list, trimmed, empty ones left out (RFC 9110 section 5.6.1.2).
pub(super) fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without spaces and tabs at both ends.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |value: &str, expected| assert_eq!(is_host(value.as_bytes()), expected, "{value:?}");
        check("", true);
        check("example.org", true);
        check("127.0.0.1:8000", true);
        check("example.org:", true);
        check("[::1]", true);
        check("[::1]:80", true);
        check("ex%41mple", true);
        check("a:65535", true);
        check("a:65536", false);
        check("a:000080", false);
        check("a:b", false);
        check("a:80:80", false);
        check("a b", false);
        check("a,b", false);
        check("a/b", false);
        check("user@a", false);
        check("http://a", false);
        check("[::1", false);
        check("[::1]x", false);
        check("[zz]", false);
        check("ex%4", false);
        check("a\u{e9}", false);
    }

    #[test]
    fn sameness() {
        let bytes: Vec<u8> = (0..40).collect();
        for len in 0..bytes.len() {
            assert!(same(&bytes[..len], &bytes[..len]));
            assert!(!same(&bytes[..len], &bytes[..=len]));
            for at in 0..len {
                let mut other = bytes[..len].to_vec();
                other[at] ^= 0x80;
                assert!(!same(&bytes[..len], &other), "{len} bytes, differing at {at}");
            }
        }
    }

    #[test]
    fn escapes() {
        let check =
            |value: &str, expected| assert_eq!(escapes_are_whole(value.as_bytes()), expected, "{value:?}");
        check("", true);
        check("/a%20b%2F", true);
        check("%", false);
        check("%2", false);
        check("%2g", false);
        check("%%20", false);
    }

    #[test]
    fn lists() {
        let check = |value: &str, expected: &[&str]| {
            let members: Vec<_> =
                list_members(value.as_bytes()).map(|m| std::str::from_utf8(m).unwrap()).collect();
            assert_eq!(members, expected, "{value:?}");
        };
        check("", &[]);
        check("close", &["close"]);
        check(" a ,\t, b,", &["a", "b"]);
    }
}
