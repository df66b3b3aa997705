//! Conditional requests: the order of RFC 9110 section 13.2.2. Pure.
use std::time::SystemTime;

/// What identifies a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    /// A strong entity tag, quotes and all.
    pub(super) etag: String,
    /// In whole seconds.
    pub(super) modified: SystemTime,
    /// Whether a second version with the same date is out of the question.
    pub(super) is_date_strong: bool,
}

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it; a Range field counts.
    Send,
    /// Send it, all of it: the client's part is of another content.
    SendWhole,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Judges the conditions of a GET or HEAD request, whose fields `lines` gives by name: a list may stand on several (RFC 9110
/// section 5.3).
pub(super) fn judge<'r, L>(lines: impl Fn(&'static str) -> L, content: &Validators) -> Verdict
where
    L: Iterator<Item = &'r [u8]>,
{
    let field = |name| lines(name).next();
    let date = |name| httpdate::parse_http_date(str::from_utf8(only(lines(name))?).ok()?).ok();
    // A tag does not go on in the next line, so each may be looked at by itself.
    let list = |name, comparison| lines(name).any(|tags| lists(tags, &content.etag, comparison));
    match field("if-match") {
        Some(_) if !list("if-match", Comparison::Strong) => return Verdict::Failed,
        Some(_) => {}
        None if date("if-unmodified-since").is_some_and(|since| content.modified > since) => {
            return Verdict::Failed;
        }
        None => {}
    }
    match field("if-none-match") {
        Some(_) if list("if-none-match", Comparison::Weak) => return Verdict::NotModified,
        Some(_) => {}
        None if date("if-modified-since").is_some_and(|since| content.modified <= since) => {
            return Verdict::NotModified;
        }
        None => {}
    }
    match field("if-range") {
        // Two are none: what one of them means may be wrong for the other, and all of it is never wrong.
        Some(_) if only(lines("if-range")).is_none() => Verdict::SendWhole,
        Some(tag) if tag.starts_with(b"\"") && tag == content.etag.as_bytes() => Verdict::Send,
        // RFC 9110 section 13.1.5: the very date, if it is a strong validator.
        Some(_) if content.is_date_strong && date("if-range") == Some(content.modified) => Verdict::Send,
        Some(_) => Verdict::SendWhole,
        None => Verdict::Send,
    }
}

/// The value of a field that is no list: there is none where it stands on several lines, which nobody may send (RFC 9110 section 5.3).
/// For dates sections 13.1.3 and 13.1.4 say so.
pub(super) fn only<'r>(mut lines: impl Iterator<Item = &'r [u8]>) -> Option<&'r [u8]> {
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

/// RFC 9110 section 8.8.3.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags has this one; `*` has all.
fn lists(tags: &[u8], etag: &str, comparison: Comparison) -> bool {
    let Ok(mut rest) = str::from_utf8(tags) else { return false };
    if rest.trim() == "*" {
        return true;
    }
    // A tag may hold a comma, so that quotes have to be counted.
    while let Some((before, after)) = rest.split_once('"') {
        let Some((tag, after)) = after.split_once('"') else { return false };
        let is_weak = before.ends_with("W/");
        if etag.trim_matches('"') == tag && (comparison == Comparison::Weak || !is_weak) {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn precedence() {
        use Verdict::*;
        const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        let content = Validators {
            etag: "\"a,b\"".into(),
            modified: UNIX_EPOCH + Duration::from_secs(784_111_777),
            is_date_strong: true,
        };
        let check = |fields: &[(&str, &str)], expected| {
            let lines = |name: &'static str| {
                fields.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_bytes())
            };
            assert_eq!(judge(lines, &content), expected, "{fields:?}");
        };
        check(&[], Send);
        check(&[("if-match", "\"a,b\"")], Send);
        check(&[("if-match", "\"x\", \"a,b\"")], Send);
        check(&[("if-match", "*")], Send);
        check(&[("if-match", "\"x\"")], Failed);
        check(&[("if-match", "W/\"a,b\"")], Failed);
        check(&[("if-match", "\"a\"")], Failed);
        check(&[("if-match", "\"a,b")], Failed);
        check(&[("if-unmodified-since", THEN)], Send);
        check(&[("if-unmodified-since", BEFORE)], Failed);
        check(&[("if-unmodified-since", "nonsense")], Send);
        check(&[("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)], Send);
        check(&[("if-none-match", "\"a,b\"")], NotModified);
        check(&[("if-none-match", "W/\"a,b\"")], NotModified);
        check(&[("if-none-match", "\"x\",W/\"y\" , \"a,b\"")], NotModified);
        check(&[("if-none-match", "*")], NotModified);
        check(&[("if-none-match", "\"x\"")], Send);
        check(&[("if-modified-since", THEN)], NotModified);
        check(&[("if-modified-since", AFTER)], NotModified);
        check(&[("if-modified-since", BEFORE)], Send);
        check(&[("if-none-match", "\"x\""), ("if-modified-since", AFTER)], Send);
        check(&[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")], Failed);
        check(&[("if-match", "*"), ("if-none-match", "*")], NotModified);
        check(&[("if-range", "\"a,b\"")], Send);
        check(&[("if-range", "W/\"a,b\"")], SendWhole);
        check(&[("if-range", "\"x\"")], SendWhole);
        check(&[("if-range", THEN)], Send);
        check(&[("if-range", AFTER)], SendWhole);
        check(&[("if-none-match", "\"a,b\""), ("if-range", "\"x\"")], NotModified);
        // One list on several lines (RFC 9110 section 5.3).
        check(&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], NotModified);
        check(&[("if-none-match", "\"x\""), ("if-none-match", "\"y\"")], Send);
        check(&[("if-none-match", "\"x"), ("if-none-match", "\"a,b\"")], NotModified);
        check(&[("if-match", "\"x\""), ("if-match", "\"y\", \"a,b\"")], Send);
        check(&[("if-match", "\"x\""), ("if-match", "\"y\"")], Failed);
        check(&[("if-none-match", "\"x\""), ("if-none-match", "\"y\""), ("if-modified-since", AFTER)], Send);
        // No lists.
        check(&[("if-range", "\"a,b\""), ("if-range", "\"a,b\"")], SendWhole);
        check(&[("if-range", THEN), ("if-range", AFTER)], SendWhole);
        check(&[("if-modified-since", THEN), ("if-modified-since", THEN)], Send);
        check(&[("if-unmodified-since", BEFORE), ("if-unmodified-since", BEFORE)], Send);
        // Just written: what comes next may have the same date.
        let young = Validators { is_date_strong: false, ..content };
        let judge_young = |name: &'static str, value: &'static str| {
            judge(|wanted| (wanted == name).then_some(value.as_bytes()).into_iter(), &young)
        };
        assert_eq!(judge_young("if-range", THEN), SendWhole);
        assert_eq!(judge_young("if-range", "\"a,b\""), Send);
        assert_eq!(judge_young("if-modified-since", THEN), NotModified);
    }
}
