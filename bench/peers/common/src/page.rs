//! The pages, as annulet-serve has them, and the two for large bodies.

pub const INDEX: &str = "<h1>Index</h1>";
pub const HTML: &str = "text/html; charset=utf-8";
pub const TEXT: &str = "text/plain; charset=utf-8";
pub const BINARY: &str = "application/octet-stream";

/// What `GET /download/100k` answers.
pub static DOWNLOAD: [u8; 100 * 1024] = [b'x'; 100 * 1024];

/// The greeting page, with the name escaped.
pub fn hello(name: &str) -> String {
    let mut page = String::with_capacity(24 + name.len());
    page.push_str("<h1>hello, ");
    push_escaped(&mut page, name);
    page.push_str("!</h1>");
    page
}

/// Appends text so that HTML takes it for text.
fn push_escaped(page: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            other => page.push(other),
        }
    }
}
