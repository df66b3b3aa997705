//! Requests with something wrong in them: seeded changes by bytes, lines and numbers, and cuts into pieces.

/// What requests are made of, and what has fooled servers before.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b": ",
    b",",
    b";",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\"",
    b"%",
    b"%2e",
    b"%2f",
    b"%00",
    b"..",
    b"/",
    b"//",
    b"?",
    b"#",
    b"*",
    b"@",
    b"[::1]",
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"OPTIONS ",
    b"CONNECT ",
    b"PRI ",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/1.9\r\n",
    b" HTTP/2.0\r\n",
    b"http://b/",
    b"Host: a\r\n",
    b"Host: b:80\r\n",
    b"Host : a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: +1\r\n",
    b"Content-Length: 1, 1\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"transfer-encoding : chunked\r\n",
    b"chunked",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: content-length\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: x\r\n",
    b"Trailer: x\r\n",
    b" folded\r\n",
    b"\tfolded\r\n",
    b"x: y\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"1\r\nx\r\n",
    b"5\r\nhello\r\n",
    b"1;a=b\r\n",
    b"1;a\n",
    b"0x5",
    b"00000000000000005\r\n",
    b"ffffffffffffffff\r\n",
    b"hello",
];

/// splitmix64: small, and every seed is good.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Seeded by bytes, so that an input alone says how it is cut.
    #[allow(dead_code, reason = "for the fuzz targets")]
    pub(crate) fn of(bytes: &[u8]) -> Random {
        // FNV-1a.
        let hash = |hash: u64, b: &u8| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
        Random(bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Less than `bound`, which is not zero. Not quite even, which does not matter here.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 32) as usize % bound
    }

    pub(crate) fn pick<'s, T: ?Sized>(&mut self, set: &[&'s T]) -> &'s T {
        set[self.below(set.len())]
    }
}

/// Where the pieces of an input end.
pub(crate) fn cut<'i>(input: &'i [u8], random: &mut Random) -> Vec<&'i [u8]> {
    let longest = 1 + random.below(1 + input.len());
    let mut rest = input;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(longest)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Changes an input a little. Pieces of `other` may come in.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = place(input, random);
    match random.below(13) {
        0 | 1 => insert(input, at, random.pick(TOKENS)),
        2 if at < input.len() => input[at] = random.next() as u8,
        3 if at < input.len() => input[at] ^= 1 << random.below(8),
        4 => {
            let end = input.len().min(at + 1 + random.below(8));
            input.drain(at.min(end)..end);
        }
        5 => {
            let end = input.len().min(at + random.below(64));
            let copy = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            insert(input, to, &copy);
        }
        6 => change_number(input, at, random),
        7 => {
            // A token instead of what stood there.
            let token = random.pick(TOKENS);
            let end = input.len().min(at + token.len());
            input.splice(at..end, token.iter().copied());
        }
        8 => change_lines(input, random),
        9 => {
            let from = random.below(other.len() + 1);
            let end = other.len().min(from + random.below(64));
            insert(input, at, &other[from..end]);
        }
        10 => input.extend_from_slice(other),
        11 => {
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        _ => {
            if let Some(b) = input.get_mut(at)
                && b.is_ascii_alphabetic()
            {
                *b ^= 0x20;
            }
        }
    }
}

/// Anywhere, and every other time at the beginning of a line, where a field may stand.
fn place(input: &[u8], random: &mut Random) -> usize {
    let at = random.below(input.len() + 1);
    match random.below(2) {
        0 => at,
        _ => input[..at].iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1),
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// The next digit becomes another one, or more of them.
fn change_number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(digit) = input[at..].iter().position(u8::is_ascii_digit) else { return };
    let number =
        random.pick::<[u8]>(&[b"0", b"1", b"2", b"9", b"00", b"10", b"ff", b"65536", b"4294967296", b""]);
    input.splice(at + digit..=at + digit, number.iter().copied());
}

/// A line is left out, comes twice, or changes its place.
fn change_lines(input: &mut Vec<u8>, random: &mut Random) {
    let mut lines: Vec<Vec<u8>> = input.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let (from, to) = (random.below(lines.len()), random.below(lines.len()));
    match random.below(3) {
        0 => drop(lines.remove(from)),
        1 => lines.insert(to, lines[from].clone()),
        _ => lines.swap(from, to),
    }
    *input = lines.concat();
}
