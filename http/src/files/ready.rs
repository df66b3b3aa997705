//! A file as answers take it.
use std::rc::Rc;

use annulet::fs::File;
use bytes::Bytes;
use http::{HeaderValue, header};

use super::conditions::Validators;
use super::open::Found;
use super::shared;
use crate::response::Response;

/// A file that was looked up, and read if it is short. A clone is the same one.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) about: Rc<About>,
    pub(super) content: Content,
}

#[derive(Clone)]
pub(super) enum Content {
    /// All of it.
    Read(Bytes),
    Open(Rc<File>),
}

/// What is said of it.
pub(super) struct About {
    pub(super) len: u64,
    pub(super) validators: Validators,
    /// `gzip` or `br`, if it is a compressed form of what was asked for.
    pub(super) coding: Option<&'static str>,
    pub(super) kind: HeaderValue,
    etag: HeaderValue,
    modified: HeaderValue,
}

impl From<Box<Found>> for Ready {
    fn from(found: Box<Found>) -> Ready {
        let kind = content_type(&found);
        let Found { file, id, len, validators, coding, content, .. } = *found;
        let etag = text(validators.etag.clone());
        let modified = text(httpdate::fmt_http_date(validators.modified));
        let content = match content {
            Some(content) => Content::Read(content.into()),
            None => Content::Open(shared::share(file, id)),
        };
        Ready { about: Rc::new(About { len, validators, coding, kind, etag, modified }), content }
    }
}

impl About {
    /// With the fields that a 200 and a 304 share (RFC 9110 section 15.4.5).
    pub(super) fn dress(&self, answer: Response) -> Response {
        answer
            .with_header(header::ETAG, self.etag.clone())
            .with_header(header::LAST_MODIFIED, self.modified.clone())
            .with_header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
            .with_header(header::VARY, HeaderValue::from_static("accept-encoding"))
    }
}

fn content_type(found: &Found) -> HeaderValue {
    let guess = mime_guess::from_path(&found.name).first_or_octet_stream();
    let is_text = guess.type_() == mime_guess::mime::TEXT || guess.subtype() == mime_guess::mime::JAVASCRIPT;
    text(if is_text { format!("{guess}; charset=utf-8") } else { guess.to_string() })
}

/// Numbers, names of types, entity tags: visible ASCII all of them.
pub(super) fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("it is made of visible ASCII")
}
