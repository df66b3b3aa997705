//! Counts `\r\n\r\n` in a stream that arrives in arbitrary pieces. Knows nothing of HTTP beyond that.

const PATTERN: &[u8; 4] = b"\r\n\r\n";

/// How much of the pattern the end of the last piece matched: 0 to 3 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terminator {
    matched: u8,
}

impl Terminator {
    /// Takes the next piece and returns how many terminators end in it.
    #[inline]
    pub(crate) fn count(&mut self, piece: &[u8]) -> u32 {
        let mut count = 0;
        let mut start = 0;
        // Byte by byte only as long as the piece before may still matter.
        while self.matched != 0 && start < piece.len() {
            count += self.step(piece[start]);
            start += 1;
        }
        if self.matched != 0 {
            return count;
        }
        let rest = &piece[start..];
        let mut tail = 0; // where the last whole match ended
        let mut end = 3; // index of the last byte of the window
        while end < rest.len() {
            // How far the window may move without passing a match: `\n` is also the second byte of the pattern, `\r`
            // also the third, anything else is none of them.
            end += match rest[end] {
                b'\n' if rest[end - 3..end] == PATTERN[..3] => {
                    count += 1;
                    tail = end + 1;
                    4
                }
                b'\n' => 2,
                b'\r' => 1,
                _ => 4,
            };
        }
        for &byte in &rest[tail.max(rest.len().saturating_sub(3))..] {
            count += self.step(byte);
        }
        count
    }

    /// The plain automaton: one byte, and whether it completed a terminator.
    fn step(&mut self, byte: u8) -> u32 {
        if byte == PATTERN[usize::from(self.matched)] {
            self.matched += 1;
            if self.matched == 4 {
                self.matched = 0;
                return 1;
            }
        } else {
            self.matched = u8::from(byte == b'\r');
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(input: &[u8]) -> u32 {
        let mut terminator = Terminator::default();
        input.iter().map(|&byte| terminator.step(byte)).sum()
    }

    fn check(input: &[u8], expected: u32) {
        assert_eq!(naive(input), expected, "{input:?}");
        // Every way to cut it into three pieces, empty ones included.
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let mut terminator = Terminator::default();
                let count = terminator.count(&input[..first])
                    + terminator.count(&input[first..second])
                    + terminator.count(&input[second..]);
                assert_eq!(count, expected, "{input:?} cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn counts_however_the_input_is_cut() {
        check(b"", 0);
        check(b"\r\n\r", 0);
        check(b"\r\n\r\n", 1);
        check(b"\r\r\n\r\n", 1);
        check(b"\r\n\r\r\n\r\n", 1);
        check(b"\r\n\r\n\r\n", 1);
        check(b"\r\n\r\n\r\n\r\n", 2);
        check(b"\n\r\n\n\r\n\r\nx", 1);
        check(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: b\r\n\r\nGET", 2);
    }

    #[test]
    fn agrees_with_the_plain_automaton_on_every_short_input() {
        for length in 0..=8u32 {
            for number in 0..3u32.pow(length) {
                let input: Vec<u8> =
                    (0..length).map(|digit| b"\r\nx"[(number / 3u32.pow(digit) % 3) as usize]).collect();
                check(&input, naive(&input));
            }
        }
    }
}
