//! Which protocol a 101 leads to. Pure.
use http::{HeaderMap, HeaderValue, header};

/// Whether a 101 with these fields goes where the request asked to (RFC 9110 section 7.8). To any other protocol a server must not
/// switch, and what it says then would be read as what it is not.
///
/// # Errors
///
/// What it does instead.
pub(super) fn check(asked: Option<&HeaderValue>, fields: &HeaderMap) -> Result<(), String> {
    let Some(asked) = asked else { return Err("101 without having been asked for".to_owned()) };
    let mut named = fields.get_all(header::UPGRADE).iter().flat_map(members).peekable();
    if named.peek().is_none() {
        return Err("101 without a field Upgrade: to which protocol is not told".to_owned());
    }
    match named.find(|named| !members(asked).any(|asked| asked.eq_ignore_ascii_case(named))) {
        Some(other) => Err(format!("101 to `{}`, which was not asked for", other.escape_ascii())),
        None => Ok(()),
    }
}

/// The members of a list (RFC 9110 section 5.6.1).
fn members(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}
