//! Paths with percent-encoded characters: two that name the same thing are matched alike, or a guard on a path would be passed by
//! writing it otherwise, where what stands behind it decodes (RFC 3986 section 6.2.2).
//!
//! There are two forms. [`matched`] is for the router alone, as far decoded as it goes without a loss; [`normalise`] is the same URI
//! still, and what handlers see. Neither decodes `%2F`, which is data and no slash, nor `%25`, which would begin another escape.

/// A byte of a path as it stands there, or from its escape.
#[derive(Clone, Copy)]
enum Piece {
    Plain(u8),
    Escaped(u8),
}

/// The form in which paths are matched, behind what `out` has: any character of ASCII that can be seen, and the space, stands for
/// itself. Values of parameters can be decoded out of it afterwards.
pub(super) fn matched(path: &[u8], out: &mut Vec<u8>) {
    for piece in pieces(path) {
        match piece {
            Piece::Plain(b) => out.push(b),
            Piece::Escaped(b) if stands_for_itself(b) => out.push(b),
            Piece::Escaped(b) => out.extend_from_slice(&escape(b)),
        }
    }
}

/// As [`matched`], of a path that a program gives to a route: braces are doubled where they were escaped, and what is beyond ASCII,
/// which no request has as it is, is escaped.
pub(super) fn of_route(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    for piece in pieces(path.as_bytes()) {
        match piece {
            Piece::Plain(b) if b.is_ascii() => out.push(b),
            Piece::Escaped(b @ (b'{' | b'}')) => out.extend([b, b]),
            Piece::Escaped(b) if stands_for_itself(b) => out.push(b),
            Piece::Plain(b) | Piece::Escaped(b) => out.extend_from_slice(&escape(b)),
        }
    }
    String::from_utf8(out).expect("only ASCII was put there")
}

/// Writes a path as RFC 3986 would have it: unreserved characters as they are (section 6.2.2.2), what stays escaped in capital digits
/// (section 6.2.2.1). Comes back with its length, which is not more than before.
pub(crate) fn normalise(path: &mut [u8]) -> usize {
    let (mut read, mut written) = (0, 0);
    while let Some((piece, len)) = first(&path[read..]) {
        read += len;
        match piece {
            Piece::Escaped(b) if !(b.is_ascii_alphanumeric() || b"-._~".contains(&b)) => {
                path[written..written + 3].copy_from_slice(&escape(b));
                written += 3;
            }
            Piece::Plain(b) | Piece::Escaped(b) => {
                path[written] = b;
                written += 1;
            }
        }
    }
    written
}

/// What is left of `path` behind `prefix`, which a program has given, plain or escaped. `None` if it begins otherwise.
pub(crate) fn strip<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let mut read = 0;
    for wanted in pieces(prefix.as_bytes()) {
        let (piece, len) = first(path.as_bytes().get(read..)?)?;
        if !wanted.is_same(piece) {
            return None;
        }
        read += len;
    }
    path.get(read..)
}

impl Piece {
    /// Whether both are the same byte, and if it is the slash, both the one that separates or both data.
    fn is_same(self, other: Piece) -> bool {
        let parts = |piece| match piece {
            Piece::Plain(b) => (b, b == b'/'),
            Piece::Escaped(b) => (b, false),
        };
        parts(self) == parts(other)
    }
}

fn stands_for_itself(b: u8) -> bool {
    (b.is_ascii_graphic() || b == b' ') && b != b'/' && b != b'%'
}

fn pieces(path: &[u8]) -> impl Iterator<Item = Piece> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (piece, len) = first(rest)?;
        rest = &rest[len..];
        Some(piece)
    })
}

/// The first piece and its length. A `%` without its digits, which no request has, is a plain byte.
fn first(path: &[u8]) -> Option<(Piece, usize)> {
    let digit = |at: usize| path.get(at).and_then(|b| char::from(*b).to_digit(16));
    match (path.first()?, digit(1), digit(2)) {
        (b'%', Some(high), Some(low)) => Some((Piece::Escaped((high * 16 + low) as u8), 3)),
        (b, ..) => Some((Piece::Plain(*b), 1)),
    }
}

fn escape(b: u8) -> [u8; 3] {
    let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
    [b'%', digit(b >> 4), digit(b & 15)]
}
