//! A request that is being put together.
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;

use super::Client;
use super::body::Body;
use super::error::Error;
use super::response::Response;
use super::url::Url;

/// Fields that the client writes itself: they frame the message or belong to the connection.
const RESERVED: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
    header::EXPECT,
];

/// A request before it is sent. What is wrong with it, [`send`](RequestBuilder::send) tells.
///
/// # Examples
///
/// ```no_run
/// # annulet::run(async {
/// let client = annulet_http::Client::new();
/// let request = client.post("http://example.com/orders").query(&[("dry", "run")]).header("authorization", "Bearer secret");
/// let answer = request.json(&["tea", "cake"]).send().await?;
/// println!("{}", answer.status());
/// # Ok::<(), annulet_http::client::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    request: Result<Request, Error>,
}

/// What goes out.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Whether the server is asked before content is sent.
    pub(super) expects_continue: bool,
    /// The protocol that a 101 may lead to.
    pub(super) upgrade: Option<HeaderValue>,
}

impl RequestBuilder {
    pub(super) fn new(client: Client, method: Method, url: &str) -> RequestBuilder {
        let request = match Url::parse(url) {
            Err(why) => Err(Error::request(why)),
            Ok(_) if method == Method::CONNECT => {
                Err(Error::request("CONNECT is for proxies, which this client does not use"))
            }
            Ok(url) => {
                let (headers, body) = (HeaderMap::new(), Body::empty());
                Ok(Request { method, url, headers, body, expects_continue: false, upgrade: None })
            }
        };
        RequestBuilder { client, request }
    }

    /// With a header field, beside those of the same name. There is one Host and one Content-Type: the last one counts.
    pub fn header<N, V>(self, name: N, value: V) -> RequestBuilder
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.change(|request| {
            let name = name.try_into().map_err(|_| Error::request("no name of a header field"))?;
            if RESERVED.contains(&name) {
                let why =
                    format!("the client sets {name} itself: use body, sized, expect_continue or upgrade");
                return Err(Error::request(why));
            }
            let Ok(value) = value.try_into() else {
                let why = format!("no value for {name}: control characters cannot be sent");
                return Err(Error::request(why));
            };
            if name == header::HOST || name == header::CONTENT_TYPE {
                request.headers.insert(name, value);
            } else {
                request.headers.append(name, value);
            }
            Ok(())
        })
    }

    /// With these pairs appended to the query of the URL: a list of pairs, a map, a structure.
    pub fn query<T: Serialize + ?Sized>(self, pairs: &T) -> RequestBuilder {
        self.change(|request| {
            let pairs = serde_urlencoded::to_string(pairs).map_err(Error::request)?;
            request.url.push_query(&pairs);
            Ok(())
        })
    }

    /// With content: bytes, text, or a [`Body`].
    pub fn body(self, body: impl Into<Body>) -> RequestBuilder {
        let body = body.into();
        self.change(|request| {
            request.body = body;
            Ok(())
        })
    }

    /// With content in JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> RequestBuilder {
        self.change(|request| {
            let text = serde_json::to_vec(value).map_err(Error::request)?;
            request.content(text, "application/json");
            Ok(())
        })
    }

    /// With the content of a form: a list of pairs, a map, a structure.
    pub fn form<T: Serialize + ?Sized>(self, pairs: &T) -> RequestBuilder {
        self.change(|request| {
            let text = serde_urlencoded::to_string(pairs).map_err(Error::request)?;
            request.content(text.into_bytes(), "application/x-www-form-urlencoded");
            Ok(())
        })
    }

    /// Asks the server whether it wants the content before any of it is sent (`Expect: 100-continue`, RFC 9110 section 10.1.1). Worth
    /// it for content that is large or can be given away only once: whoever needs a login first says so, or sends us elsewhere, and
    /// has cost a round trip and not the upload. A request without content asks nothing.
    ///
    /// The content leaves when the server says 100, or when it has said nothing for as long as
    /// [`continue_timeout`](super::ClientBuilder::continue_timeout): it may not know of expectations. A final answer that comes first
    /// is the answer: the content stays here, and the connection is closed behind it, since the server might wait for the content on it.
    /// Content that stayed here goes where a redirection leads, even that of a [stream](Body::stream). After 417 (Expectation Failed)
    /// the request is sent once more, without asking, unless its content is a stream that has begun to leave, or 100 came before.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::net::TcpListener;
    /// use annulet_http::{Client, Request, Router, Server, StatusCode};
    ///
    /// annulet::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ///     let url = format!("http://{}/", listener.local_addr().unwrap());
    ///     // It answers without looking at the content, so nobody asks for that.
    ///     let router = Router::new().put("/", async |_: Request| StatusCode::UNAUTHORIZED);
    ///     drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
    ///
    ///     let request = Client::new().put(url);
    ///     let answer = request.body(vec![0; 500_000]).expect_continue().send().await.unwrap();
    ///     assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    /// });
    /// ```
    pub fn expect_continue(self) -> RequestBuilder {
        self.change(|request| {
            request.expects_continue = true;
            Ok(())
        })
    }

    /// Asks to leave HTTP for this protocol; if the answer is 101, [`Response::upgraded`] gives the connection.
    pub fn upgrade(self, protocol: &'static str) -> RequestBuilder {
        self.change(|request| {
            let value = HeaderValue::try_from(protocol);
            request.upgrade = Some(value.map_err(|_| Error::request("no name of a protocol"))?);
            Ok(())
        })
    }

    /// Sends it, and waits for the head of the answer.
    ///
    /// Redirections are followed, and a request that may be repeated is sent once more when a kept connection turns out to be
    /// closed; see [`Client`].
    ///
    /// # Errors
    ///
    /// See [`Error`]. An answer with a status code of an error is an answer; see
    /// [`error_for_status`](Response::error_for_status).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, or leaves the line for one. Whether the server acts on the request is not told.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn send(self) -> Result<Response, Error> {
        let request = self.request?;
        if request.method == Method::TRACE && !request.body.is_empty() {
            // RFC 9110 section 9.3.8.
            return Err(Error::request("TRACE has no content: send it without a body"));
        }
        self.client.execute(request).await
    }

    fn change(mut self, change: impl FnOnce(&mut Request) -> Result<(), Error>) -> RequestBuilder {
        if let Ok(request) = &mut self.request
            && let Err(error) = change(request)
        {
            self.request = Err(error);
        }
        self
    }
}

impl Request {
    fn content(&mut self, text: Vec<u8>, content_type: &'static str) {
        self.body = Body::from(text);
        self.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    }

    /// RFC 9110 section 9.2.2.
    pub(super) fn is_idempotent(&self) -> bool {
        let m = &self.method;
        m.is_safe() || *m == Method::PUT || *m == Method::DELETE
    }

    /// The head as it is sent.
    pub(super) fn write_head(
        &self,
        agent: &HeaderValue,
        cookies: Option<&str>,
        body: &Body,
        expects_continue: bool,
        to: &mut Vec<u8>,
    ) {
        let mut line = String::with_capacity(64 + self.url.target.len());
        let _ = write!(line, "{} {} HTTP/1.1\r\n", self.method, self.url.target); // memory does not fail
        to.extend_from_slice(line.as_bytes());
        let mut field = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                to.extend_from_slice(part);
            }
        };
        if !self.headers.contains_key(header::HOST) {
            field("host", self.url.authority().as_bytes());
        }
        if !self.headers.contains_key(header::USER_AGENT) {
            field("user-agent", agent.as_bytes());
        }
        if !self.headers.contains_key(header::ACCEPT) {
            field("accept", b"*/*");
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| *name != header::COOKIE) {
            field(name.as_str(), value.as_bytes());
        }
        // RFC 6265 section 5.4: one field, whoever set the cookies.
        let own = self.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let all: Vec<&[u8]> = own.chain(cookies.map(str::as_bytes)).collect();
        if !all.is_empty() {
            field("cookie", &all.join(&b"; "[..]));
        }
        if let Some(protocol) = &self.upgrade {
            field("connection", b"upgrade");
            field("upgrade", protocol.as_bytes());
        }
        if expects_continue {
            field("expect", b"100-continue");
        }
        // RFC 9110 section 8.6: a method that says something says how much, even if it is nothing.
        let expects_content = [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        match body.length() {
            None => field("transfer-encoding", b"chunked"),
            Some(0) if body.is_empty() && !expects_content => {}
            Some(length) => field("content-length", itoa::Buffer::new().format(length).as_bytes()),
        }
        to.extend_from_slice(b"\r\n");
    }

    /// The request that follows a redirection (RFC 9110 section 15.4).
    ///
    /// # Errors
    ///
    /// When the content would have to be sent again and is gone.
    pub(super) fn follow(&mut self, status: u16, to: Url, again: Option<Body>) -> Result<(), &'static str> {
        let becomes_get = match status {
            301 | 302 => self.method == Method::POST,
            303 => self.method != Method::HEAD,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = Body::empty();
            for name in [
                header::CONTENT_TYPE,
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_LOCATION,
            ] {
                self.headers.remove(name);
            }
        } else {
            self.body = again.ok_or("the content of the request was a stream and cannot be sent twice")?;
        }
        if to.origin() != self.url.origin() {
            // What was meant for one server is no other's business.
            for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::HOST] {
                self.headers.remove(name);
            }
        }
        self.url = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// What the head says of the content.
    fn framing(method: &Method, body: &Body) -> String {
        let url = Url::parse("http://a/b").unwrap();
        let (headers, upgrade) = (HeaderMap::new(), None);
        let own = Body::empty();
        let request =
            Request { method: method.clone(), url, headers, body: own, expects_continue: false, upgrade };
        let mut head = Vec::new();
        request.write_head(&HeaderValue::from_static("us"), None, body, false, &mut head);
        let head = String::from_utf8(head).unwrap();
        let start = format!("{method} /b HTTP/1.1\r\nhost: a\r\nuser-agent: us\r\naccept: */*\r\n");
        let rest = head.strip_prefix(&start).unwrap_or_else(|| panic!("{head}"));
        rest.strip_suffix("\r\n").unwrap().trim_end().to_owned()
    }

    /// RFC 9112 section 6: content without one of these would be taken for the next request.
    #[test]
    fn content_of_every_kind_is_framed_whatever_the_method() {
        let pieces = || stream::iter([Ok::<_, std::io::Error>("hello")]);
        let bodies: [(&str, Body, &str); 8] = [
            ("text", "hello".into(), "content-length: 5"),
            ("empty text", "".into(), "content-length: 0"),
            ("sized", Body::sized(5, pieces()), "content-length: 5"),
            ("sized, nothing", Body::sized(0, pieces()), "content-length: 0"),
            ("sized with trailers", Body::sized(5, pieces()).with_trailers(Vec::new), "content-length: 5"),
            ("text with trailers", Body::from("hello").with_trailers(Vec::new), "content-length: 5"),
            ("stream", Body::stream(pieces()), "transfer-encoding: chunked"),
            (
                "stream with trailers",
                Body::stream(pieces()).with_trailers(Vec::new),
                "transfer-encoding: chunked",
            ),
        ];
        for name in ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "PURGE", "get"] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            for (kind, body, expected) in &bodies {
                assert_eq!(framing(&method, body), *expected, "{name}, {kind}");
            }
            let expected = if matches!(name, "POST" | "PUT" | "PATCH") { "content-length: 0" } else { "" };
            assert_eq!(framing(&method, &Body::empty()), expected, "{name} without content");
        }
    }
}
