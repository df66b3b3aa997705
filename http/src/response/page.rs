//! Pages in HTML: text in recycled memory, and what has to be escaped in it.
use std::fmt::{self, Write as _};

use super::{Body, IntoResponse, Response};
use crate::h1::encode::ContentType;
use crate::recycle::Buffer;

/// A page in HTML, written piece by piece into recycled memory: as [`Response::html_fmt`], without the cost of formatting.
///
/// # Examples
///
/// ```
/// use annulet_http::{IntoResponse, Page};
///
/// let mut page = Page::new();
/// page.push("<p>").push_escaped("a < b").push("</p>");
/// assert_eq!(page.into_response().body(), b"<p>a &lt; b</p>");
/// ```
#[derive(Debug)]
pub struct Page(Buffer);

impl Page {
    /// An empty page.
    #[inline]
    #[must_use]
    pub fn new() -> Page {
        Page(Buffer::take())
    }

    /// Appends markup as it is.
    #[inline]
    pub fn push(&mut self, markup: &str) -> &mut Page {
        self.0.extend_from_slice(markup.as_bytes());
        self
    }

    /// Appends text, [escaped](escape).
    #[inline]
    pub fn push_escaped(&mut self, text: &str) -> &mut Page {
        let mut rest = text;
        while let Some((at, reference)) = next_special(rest) {
            self.push(&rest[..at]).push(reference);
            rest = &rest[at + 1..];
        }
        self.push(rest)
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

impl IntoResponse for Page {
    #[inline]
    fn into_response(self) -> Response {
        Response::of(ContentType::Html, Body::Recycled(self.0))
    }
}

/// Text in recycled memory.
#[inline]
pub(super) fn formatted(text: fmt::Arguments<'_>) -> Buffer {
    let mut buffer = Buffer::take();
    // Writing to memory cannot fail; a value whose Display fails leaves a page cut short, as it does in format!.
    let _ = buffer.write_fmt(text);
    buffer
}

/// Shows text with `& < > " '` as character references, for use in HTML text and quoted attributes, and U+FFFD for NUL, which HTML does
/// not allow.
///
/// # Examples
///
/// ```
/// assert_eq!(annulet_http::escape("<b> & 'c'").to_string(), "&lt;b&gt; &amp; &#39;c&#39;");
/// ```
#[inline]
#[must_use]
pub fn escape(text: &str) -> Escape<'_> {
    Escape(text)
}

/// See [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escape<'a>(&'a str);

impl fmt::Display for Escape<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, reference)) = next_special(rest) {
            f.write_str(&rest[..at])?;
            f.write_str(reference)?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// The first character that HTML would take for markup, or not at all, and what stands for it.
#[inline]
fn next_special(text: &str) -> Option<(usize, &'static str)> {
    text.bytes().enumerate().find_map(|(at, b)| {
        let reference = match b {
            // Most are, and the other questions need not be asked of them.
            b'?'.. => return None,
            // HTML has no way to say it; its parsers put this in its place, or nothing.
            0 => "\u{fffd}",
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            _ => return None,
        };
        Some((at, reference))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping() {
        let check = |text: &str, expected: &str| {
            assert_eq!(escape(text).to_string(), expected);
            let mut page = Page::new();
            page.push("<").push_escaped(text);
            assert_eq!(page.into_response().body(), format!("<{expected}").as_bytes());
        };
        check("", "");
        check("bob", "bob");
        check("<script>", "&lt;script&gt;");
        check("a&b", "a&amp;b");
        check("a\0b\0", "a\u{fffd}b\u{fffd}");
        check("\"'\u{e9}", "&quot;&#39;\u{e9}");
    }
}
