//! Server-sent events: a text stream of small messages that browsers understand (the HTML standard, section 9.2).
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use annulet::time::Sleep;
use futures_core::Stream;
use http::{HeaderValue, header};
use pin_project_lite::pin_project;

use crate::response::Response;
use crate::stream::Data;

/// One message of a stream of [`events`](Response::events).
///
/// # Examples
///
/// ```
/// use annulet_http::Event;
///
/// let event = Event::data("two\nlines").with_name("tick").with_id("7");
/// assert_eq!(event.to_string(), "event: tick\nid: 7\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The fields before the data, each with its line end.
    fields: String,
    data: Option<String>,
}

impl Event {
    /// An event with this data. Each line of it becomes a line of the stream.
    #[must_use]
    pub fn data(data: impl Into<String>) -> Event {
        Event { fields: String::new(), data: Some(data.into()) }
    }

    /// A comment, which browsers ignore; it keeps proxies from ending a silent connection.
    #[must_use]
    pub fn comment(text: &str) -> Event {
        Event::default().with_field("", text)
    }

    /// With a name other than `message`.
    ///
    /// # Panics
    ///
    /// When it holds a line end.
    #[must_use]
    pub fn with_name(self, name: &str) -> Event {
        self.with_field("event", name)
    }

    /// With an id, which a browser sends back as `Last-Event-ID` when it connects again.
    ///
    /// # Panics
    ///
    /// When it holds a line end or a NUL.
    #[must_use]
    pub fn with_id(self, id: &str) -> Event {
        assert!(!id.contains('\0'), "the id of an event holds no NUL");
        self.with_field("id", id)
    }

    /// With the time that a browser is to wait before it connects again, in whole milliseconds.
    #[must_use]
    pub fn with_retry(self, retry: Duration) -> Event {
        self.with_field("retry", &retry.as_millis().to_string())
    }

    fn with_field(mut self, name: &str, value: &str) -> Event {
        assert!(!value.contains(['\n', '\r']), "a field of an event is one line: {value:?}");
        self.fields.extend([name, ": ", value, "\n"]);
        self
    }
}

/// As it is sent.
impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.fields)?;
        // A browser ends a line at CR, LF or both; what it is to get back is lines.
        let data = self.data.iter().flat_map(|data| data.split('\n'));
        for line in data.flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')) {
            writeln!(f, "data: {line}")?;
        }
        f.write_str("\n")
    }
}

impl From<Event> for Data {
    fn from(event: Event) -> Data {
        event.to_string().into()
    }
}

impl Response {
    /// Server-sent events, one message for each item, as long as the stream and the client last. Nothing keeps them for later
    /// (`Cache-Control: no-store`). When nothing has been sent for 15 seconds, a comment is, so that an end of the client is noticed
    /// and no proxy takes the silence for one.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Event, Request, Response, Router};
    ///
    /// /// A counter. Any `futures_core::Stream` will do.
    /// struct Ticks(u32);
    ///
    /// impl futures_core::Stream for Ticks {
    ///     type Item = Event;
    ///     fn poll_next(
    ///         mut self: std::pin::Pin<&mut Self>,
    ///         _: &mut std::task::Context<'_>,
    ///     ) -> std::task::Poll<Option<Event>> {
    ///         self.0 += 1;
    ///         std::task::Poll::Ready((self.0 <= 3).then(|| Event::data(self.0.to_string())))
    ///     }
    /// }
    ///
    /// let router = Router::new().get("/ticks", async |_: Request| Response::events(Ticks(0)));
    /// ```
    #[must_use]
    pub fn events(events: impl Stream<Item = Event> + 'static) -> Response {
        Response::stream(Lively { events, silence: None })
            .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))
            .with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }
}

/// How long nothing is sent before a comment is. Less than what proxies usually wait for (30 s and more).
const SILENCE_MAX: Duration = Duration::from_secs(15);

pin_project! {
    /// Events, and comments where there would be silence.
    struct Lively<S> {
        #[pin]
        events: S,
        silence: Option<Pin<Box<Sleep>>>,
    }
}

impl<S: Stream<Item = Event>> Stream for Lively<S> {
    type Item = Result<Event, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if let Poll::Ready(event) = this.events.poll_next(cx) {
            *this.silence = None;
            return Poll::Ready(event.map(Ok));
        }
        let silence = this.silence.get_or_insert_with(|| Box::pin(annulet::time::sleep(SILENCE_MAX)));
        ready!(silence.as_mut().poll(cx));
        *this.silence = None;
        Poll::Ready(Some(Ok(Event::comment(""))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_sent() {
        let check = |event: Event, expected: &str| assert_eq!(event.to_string(), expected);
        check(Event::data("a"), "data: a\n\n");
        check(Event::data(""), "data: \n\n");
        check(Event::data("a\r\nb\rc\n"), "data: a\ndata: b\ndata: c\ndata: \n\n");
        check(Event::comment("x"), ": x\n\n");
        let retry = Duration::from_secs(3);
        check(Event::data("a").with_name("n").with_retry(retry), "event: n\nretry: 3000\ndata: a\n\n");
    }

    #[test]
    #[should_panic(expected = "one line")]
    fn a_name_is_one_line() {
        let _ = Event::data("").with_name("a\ndata: b");
    }
}
