//! The PROXY protocol (haproxy's doc/proxy-protocol.txt, versions 1 and 2): one header before the first byte of a connection.
//!
//! What it does not do: verify the checksum or read the other additions (TLVs) of version 2; they are skipped, unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 1 may be long at most, CRLF included (section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";
/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The most bytes behind the first 16 of version 2. Arbitrary: addresses take 216 at the most, and proxies add little.
const ADDITIONS_BYTES_MAX: usize = 4096;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// More is needed.
    Partial,
    /// The header is so long; the client is there, or unknown (a proxy that asks for itself, or another kind of address).
    Whole(usize, Option<SocketAddr>),
    /// That is no header, and the connection is to end.
    Wrong,
}

/// Reads the header that a connection begins with.
pub(crate) fn header(input: &[u8]) -> Header {
    let begins = |with: &[u8]| {
        let count = input.len().min(with.len());
        input[..count] == with[..count]
    };
    if begins(WORD) {
        line(input)
    } else if begins(SIGNATURE) {
        binary(input)
    } else {
        Header::Wrong
    }
}

/// Whether what is no request begins as a header does, of either version. A request may: `PROXY` is a method like any other.
#[cold]
pub(crate) fn is_header_begun(input: &[u8]) -> bool {
    input.starts_with(WORD) || input.starts_with(SIGNATURE)
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
fn line(input: &[u8]) -> Header {
    let head = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return if head.len() < LINE_BYTES_MAX { Header::Partial } else { Header::Wrong };
    };
    let Some(words) = head[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(WORD)) else {
        return Header::Wrong;
    };
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        // "The receiver must ignore anything presented before the CRLF".
        return Header::Whole(end + 1, None);
    }
    match str::from_utf8(words).ok().and_then(source) {
        Some(source) => Header::Whole(end + 1, Some(source)),
        None => Header::Wrong,
    }
}

/// The source of what version 1 says behind its first word, if all of it is right.
fn source(words: &str) -> Option<SocketAddr> {
    let mut words = words.split(' ');
    let source = match words.next()? {
        "TCP4" => addresses::<Ipv4Addr>(&mut words),
        "TCP6" => addresses::<Ipv6Addr>(&mut words),
        _ => None,
    };
    source.filter(|_| words.next().is_none())
}

/// Two addresses and two ports; gives the first of each.
fn addresses<'a, A>(words: &mut impl Iterator<Item = &'a str>) -> Option<SocketAddr>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut address = || words.next()?.parse::<A>().ok();
    let (source, _destination) = (address()?, address()?);
    let mut port = || {
        let word = words.next()?;
        // Neither a sign nor leading zeros.
        let is_plain =
            word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        word.parse::<u16>().ok().filter(|_| is_plain)
    };
    let (port, _destination) = (port()?, port()?);
    Some(SocketAddr::new(source.into(), port))
}

/// Version 2: the signature, a byte of version and command, one of family and protocol, a length, addresses, additions.
fn binary(input: &[u8]) -> Header {
    let Some((&[command, family, high, low], rest)) =
        input.get(SIGNATURE.len()..).and_then(|rest| rest.split_first_chunk::<4>())
    else {
        // The version can be seen before the rest.
        let is_two = input.get(SIGNATURE.len()).is_none_or(|command| matches!(command, 0x20 | 0x21));
        return if is_two { Header::Partial } else { Header::Wrong };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > ADDITIONS_BYTES_MAX {
        return Header::Wrong;
    }
    let needed = match (command, family >> 4, family & 0xf) {
        // LOCAL, a proxy that asks for itself (a health check): all of the block is ignored, "including the family".
        (0x20, ..) => 0,
        (0x21, 1, 1) => 12,
        (0x21, 2, 1) => 36,
        // Unix streams, whose paths say nothing here.
        (0x21, 3, 1) => 216,
        // Unspecified, and datagrams, which "fall back to the UNSPEC mode".
        (0x21, 0..=3, 0..=2) => 0,
        _ => return Header::Wrong,
    };
    if length < needed {
        return Header::Wrong;
    }
    let Some(rest) = rest.get(..length) else { return Header::Partial };
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let source = match needed {
        12 => {
            let address: [u8; 4] = rest[..4].try_into().expect("four bytes");
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), port(8)))
        }
        36 => {
            let address: [u8; 16] = rest[..16].try_into().expect("sixteen bytes");
            Some(SocketAddr::new(Ipv6Addr::from(address).into(), port(32)))
        }
        _ => None,
    };
    Header::Whole(SIGNATURE.len() + 4 + length, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(header: Header) -> String {
        match header {
            Header::Partial => "partial".to_owned(),
            Header::Wrong => "wrong".to_owned(),
            Header::Whole(used, None) => format!("{used} unknown"),
            Header::Whole(used, Some(source)) => format!("{used} {source}"),
        }
    }

    /// What comes out, in any slicing: every shorter piece is partial, and what follows changes nothing.
    fn check(input: &[u8], expected: &str) {
        assert_eq!(show(header(input)), expected, "{}", input.escape_ascii());
        hold(input);
    }

    /// What is true of any input, whole or not.
    fn hold(input: &[u8]) {
        let all = header(input);
        let followed = header(&[input, b"GET / HTTP/1.1\r\n"].concat());
        match all {
            Header::Whole(used, _) => {
                assert!(used <= input.len() && used <= 16 + ADDITIONS_BYTES_MAX, "{}", input.escape_ascii());
                assert_eq!(followed, all, "{}", input.escape_ascii());
            }
            Header::Wrong => assert_eq!(followed, all, "{}", input.escape_ascii()),
            Header::Partial => assert!(input.len() < 16 + ADDITIONS_BYTES_MAX, "it waits for ever"),
        }
        // What a prefix says is never taken back, but for "more is needed".
        let decided = (0..=input.len()).find(|end| header(&input[..*end]) != Header::Partial);
        match (decided, all) {
            (None, Header::Partial) => {}
            (Some(end), Header::Whole(used, _)) => assert_eq!(end, used, "{}", input.escape_ascii()),
            (Some(end), Header::Wrong) => assert_eq!(header(&input[..end]), Header::Wrong),
            other => panic!("{other:?}: {}", input.escape_ascii()),
        }
    }

    #[test]
    fn version_one() {
        check(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "45 192.0.2.1:56324");
        check(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "56 255.255.255.255:65535");
        check(b"PROXY TCP6 2001:db8::1 ::1 0 80\r\n", "33 [2001:db8::1]:0");
        check(b"PROXY TCP6 2001:DB8::A ::1 0 80\r\n", "33 [2001:db8::a]:0");
        check(b"PROXY UNKNOWN\r\n", "15 unknown");
        check(b"PROXY UNKNOWN ffff::1 what ever 1 2\r\n", "37 unknown");
        check(b"PROXY UNKNOWN \xff\0\r \r\n", "20 unknown");
        check(b"", "partial");
        check(b"PROX", "partial");
        check(b"PROXY TCP4 192.0.2.1", "partial");
        // The longest line of the specification is taken, a longer one never waited for.
        let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 91], b"\r\n"].concat();
        check(&longest, "107 unknown");
        check(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92]].concat(), "partial");
        check(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat(), "wrong");
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "PROXYTCP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4\t192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 02\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1  2\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 x 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN\n",
            "PROXY \r\n",
        ] {
            check(wrong.as_bytes(), "wrong");
        }
    }

    /// A header of version 2.
    fn two(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 187];

    #[test]
    fn version_two() {
        check(&two(0x21, 0x11, &V4), "28 192.0.2.1:56324");
        let added = [V4.as_slice(), &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        check(&two(0x21, 0x11, &added), "35 192.0.2.1:56324");
        let v6 =
            [&Ipv6Addr::LOCALHOST.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0, 80, 1, 187]].concat();
        check(&two(0x21, 0x21, &v6), "52 [::1]:80");
        check(&two(0x21, 0x31, &[0; 216]), "232 unknown");
        check(&two(0x21, 0x00, &[]), "16 unknown");
        // Datagrams, and whatever is unspecified in part.
        check(&two(0x21, 0x12, &V4), "28 unknown");
        check(&two(0x21, 0x32, &[]), "16 unknown");
        check(&two(0x21, 0x10, &V4), "28 unknown");
        // LOCAL: whatever it says, the connection is the sender's own.
        check(&two(0x20, 0x00, &[]), "16 unknown");
        check(&two(0x20, 0x11, &V4), "28 unknown");
        check(&two(0x20, 0x11, &[]), "16 unknown");
        check(&two(0x20, 0xff, &[1, 2, 3]), "19 unknown");
        check(&two(0x21, 0x11, &V4)[..20], "partial");
        check(&two(0x21, 0x11, &V4[..11]), "wrong");
        check(&two(0x21, 0x21, &v6[..35]), "wrong");
        check(&two(0x21, 0x31, &[0; 215]), "wrong");
        check(&two(0x21, 0x41, &V4), "wrong");
        check(&two(0x21, 0x13, &V4), "wrong");
        check(&two(0x22, 0x11, &V4), "wrong");
        check(&two(0x11, 0x11, &V4), "wrong");
        // The most that is taken, and one byte more.
        check(&two(0x21, 0x11, &[0; ADDITIONS_BYTES_MAX]), "4112 0.0.0.0:0");
        check(&two(0x21, 0x11, &[0; ADDITIONS_BYTES_MAX + 1]), "wrong");
        check(&two(0x20, 0x00, &[0; ADDITIONS_BYTES_MAX + 1])[..16], "wrong");
        check(b"\r\n\r\n\0\r\nQUIT\r", "wrong");
        check(b"\r\nGET / HTTP/1.1\r\n", "wrong");
        check(&[SIGNATURE.as_slice(), &[0x31]].concat(), "wrong");
    }

    #[test]
    fn no_input_is_judged_twice() {
        let seeds: [&[u8]; 6] = [
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            b"PROXY TCP6 2001:db8::1 ::1 5 80\r\n",
            b"PROXY UNKNOWN \r\n",
            &two(0x21, 0x11, &V4),
            &two(0x21, 0x21, &[7; 40]),
            &two(0x20, 0x00, &[3, 0, 4, 1, 2, 3, 4]),
        ];
        // Every byte of every seed at every value, and every piece left out or doubled.
        for seed in seeds {
            for at in 0..seed.len() {
                for value in 0..=u8::MAX {
                    let mut input = seed.to_vec();
                    input[at] = value;
                    hold(&input);
                }
                for end in at..=seed.len() {
                    hold(&[&seed[..at], &seed[end..]].concat());
                    hold(&[&seed[..end], &seed[at..]].concat());
                }
            }
        }
    }

    #[test]
    fn a_header_is_known_from_its_first_bytes() {
        assert!(is_header_begun(b"PROXY TCP4"));
        assert!(is_header_begun(&two(0x21, 0x11, &V4)));
        assert!(!is_header_begun(b"\r\n\r\nGET"));
        assert!(!is_header_begun(b"PROXYING / HTTP/1.1"));
    }
}
