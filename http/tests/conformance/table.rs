//! The files of cases. A line is `RULE REQUEST -> ANSWERS STATE`; lines that are empty or begin with `#` are skipped.
//!
//! - RULE names the RFC and section, or the advisory.
//! - REQUEST: `⏎` is CRLF, `\r \n \t \s \0 \xHH \\ \{` are single bytes, `{3:ab}` is `ababab`, `@C` is the head of a POST to /echo
//!   with the chunked coding.
//! - ANSWERS: status codes, each with `^` before it if it answers HEAD, `{name: value}` behind it for a field that it must have,
//!   `[content]` for what it must contain; `20*200` is twenty of them.
//! - STATE: what the connection is good for afterwards. `keep`: the next request is answered. `close`: it is not, and the last
//!   answer said so. `end`: it is not, and the answer was out before that was known. `cut`: the client ends its stream in the
//!   middle, and these are all the answers.

/// One line.
#[derive(Debug)]
pub(crate) struct Case<'t> {
    pub(crate) line: usize,
    pub(crate) rule: &'t str,
    /// As it stands in the file.
    pub(crate) shown: &'t str,
    pub(crate) request: Vec<u8>,
    pub(crate) answers: Vec<Expected>,
    pub(crate) state: State,
}

/// One answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) status: String,
    /// It answers HEAD: no content follows, whatever its length says.
    pub(crate) is_head: bool,
    pub(crate) field: Option<String>,
    pub(crate) content: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Keep,
    Close,
    End,
    Cut,
}

/// The cases of a file.
pub(crate) fn cases(text: &str) -> impl Iterator<Item = Case<'_>> {
    text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(
        |(at, line)| {
            let parse = || {
                let (rule, rest) = line.split_once(' ')?;
                let (shown, expected) = rest.trim_start().rsplit_once(" -> ").or(rest.split_once(" -> "))?;
                let (answers, state) = expectations(expected)?;
                Some(Case { line: at + 1, rule, shown, request: bytes(shown), answers, state })
            };
            parse().unwrap_or_else(|| panic!("line {}: {line:?}", at + 1))
        },
    )
}

const CHUNKED: &str = "POST /echo HTTP/1.1⏎Host: a⏎Transfer-Encoding: chunked⏎⏎";

/// The bytes that a text stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (mut used, mut utf8) = (first.len_utf8(), [0; 4]);
        match first {
            '⏎' => out.extend_from_slice(b"\r\n"),
            '@' if rest.starts_with("@C") => {
                out.extend(bytes(CHUNKED));
                used = 2;
            }
            '{' => {
                let end = rest.find('}').expect("a repetition ends");
                let (count, repeated) = rest[1..end].split_once(':').expect("a repetition has a count");
                out.extend(bytes(repeated).repeat(count.parse().expect("the count is a number")));
                used = end + 1;
            }
            '\\' => {
                let escape = rest.as_bytes()[1];
                used = 2;
                out.push(match escape {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b's' => b' ',
                    b'0' => 0,
                    b'x' => {
                        used = 4;
                        u8::from_str_radix(&rest[2..4], 16).expect("two digits")
                    }
                    _ => escape,
                });
            }
            _ => out.extend_from_slice(first.encode_utf8(&mut utf8).as_bytes()),
        }
        rest = &rest[used..];
    }
    out
}

fn expectations(text: &str) -> Option<(Vec<Expected>, State)> {
    let mut answers = Vec::new();
    let mut rest = text;
    loop {
        let state = match rest {
            "keep" => State::Keep,
            "close" => State::Close,
            "end" => State::End,
            "cut" => State::Cut,
            _ => {
                rest = expect_answer(rest, &mut answers)?;
                continue;
            }
        };
        return Some((answers, state));
    }
}

/// Takes one answer and the space behind it.
fn expect_answer<'t>(text: &'t str, answers: &mut Vec<Expected>) -> Option<&'t str> {
    let mut expected = Expected::default();
    let mut rest = text;
    let mut count = 1;
    if let Some((number, after)) = rest.split_once('*')
        && let Ok(number) = number.parse()
    {
        (count, rest) = (number, after);
    }
    if let Some(after) = rest.strip_prefix('^') {
        (expected.is_head, rest) = (true, after);
    }
    let (status, mut rest) = rest.split_at_checked(3)?;
    status.parse::<u16>().ok()?;
    expected.status = status.to_owned();
    if let Some(after) = rest.strip_prefix('{') {
        let (field, after) = after.split_once('}')?;
        expected.field = Some(field.to_owned());
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('[') {
        let is_next = |text: &str| {
            text.starts_with(|c: char| c == '^' || c.is_ascii_digit())
                || ["keep", "close", "end", "cut"].contains(&text)
        };
        let (end, _) = after.match_indices("] ").find(|(at, _)| is_next(&after[at + 2..]))?;
        expected.content = Some(bytes(&after[..end]));
        rest = &after[end + 1..];
    }
    answers.extend(std::iter::repeat_n(expected, count));
    rest.strip_prefix(' ')
}

#[test]
fn the_language() {
    let text = "# no\n9§1  \\sG⏎{2:ab}\\x00\\{} -> ^200{a: b}[c] ] 2*404 keep";
    let case = cases(text).next().unwrap();
    assert_eq!((case.line, case.rule, case.state), (2, "9§1", State::Keep));
    assert_eq!(case.request, b" G\r\nabab\0{}");
    assert_eq!(case.answers.len(), 3);
    let first = &case.answers[0];
    assert!(first.is_head && first.field.as_deref() == Some("a: b"));
    assert_eq!(first.content.as_deref(), Some(&b"c] "[..]));
}
