//! The frame of every page that the instrument writes: one file, no network, no script, light and dark.

use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// A page that is being written.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    pub(crate) fn new(title: &str) -> Page {
        let title = escape(title);
        let text = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        );
        Page { text }
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.line(&format!("<h2>{}</h2>", escape(text)));
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.line(&format!("<p>{}</p>", escape(text)));
    }

    /// A paragraph that catches the eye; `class` is `good`, `warn` or `bad`.
    pub(crate) fn notice(&mut self, class: &str, title: &str, lines: &[String]) {
        let _ = write!(self.text, "<div class=\"notice {class}\"><strong>{}</strong>", escape(title));
        for line in lines {
            let _ = write!(self.text, "<p>{}</p>", escape(line));
        }
        self.line("</div>");
    }

    /// Words and what they stand for.
    pub(crate) fn definitions<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        self.line("<dl>");
        for (word, meaning) in pairs {
            self.line(&format!("<dt>{}</dt><dd>{}</dd>", escape(word), escape(meaning)));
        }
        self.line("</dl>");
    }

    /// Large figures in a row: what each is, and its value.
    pub(crate) fn figures(&mut self, figures: &[(String, String)]) {
        self.line("<div class=\"figures\">");
        for (name, value) in figures {
            self.line(&format!("<div><b>{}</b><span>{}</span></div>", escape(value), escape(name)));
        }
        self.line("</div>");
    }

    /// The first row is the heading, the first column the names.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) {
        self.line("<div class=\"scroll\"><table>");
        for (number, row) in rows.iter().enumerate() {
            let tag = if number == 0 { "th" } else { "td" };
            self.text.push_str("<tr>");
            for cell in row {
                let _ = write!(self.text, "<{tag}>{}</{tag}>", escape(cell));
            }
            self.line("</tr>");
        }
        self.line("</table></div>");
    }

    /// A picture, as SVG, with what it shows.
    pub(crate) fn figure(&mut self, caption: &str, svg: &str) {
        self.line(&format!("<figure><figcaption>{}</figcaption>{svg}</figure>", escape(caption)));
    }

    /// The whole file.
    pub(crate) fn finish(mut self) -> String {
        self.line("</main>\n</body>\n</html>");
        self.text
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// Text as HTML and SVG take it for text.
pub(crate) fn escape(text: &str) -> String {
    annulet_http::escape(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_stays_text() {
        let mut page = Page::new("<script>");
        page.paragraph("<b>");
        page.table(&[vec!["&".into()]]);
        page.definitions([("<i>", "\"")].into_iter());
        let text = page.finish();
        for raw in ["<script>", "<b>", "<i>", "<td>&<"] {
            assert!(!text.contains(raw), "{raw}");
        }
    }
}
