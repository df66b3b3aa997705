//! What a server makes of received bytes, without a socket and without handlers: parser, framing and life-cycle put together as
//! the server's pump does where a handler reads its whole body. Mutated requests and the fuzz targets are held against it.
use annulet_http::h1::connection::{Exchange, Stage};
use annulet_http::h1::framing::Framing;
use annulet_http::h1::head::{Field, Head, Parse, Parser};
use annulet_http::{Limits, Refusal};

/// Everything that a client said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) requests: Vec<Heard>,
    pub(crate) end: End,
}

/// One request. The last may lack a part of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) host: String,
    /// Content may follow its head.
    pub(crate) has_content: bool,
    /// It asks whether its body is wanted.
    pub(crate) expects_continue: bool,
    pub(crate) body: Vec<u8>,
}

/// How the client's bytes ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Between two requests.
    #[default]
    Idle,
    InHead,
    InBody,
    /// In front of a head that is refused.
    HeadRefused(Refusal),
    /// In the last request, which has a body that is refused.
    BodyRefused(Refusal),
    /// Behind a request that was the last of its connection; what followed is ignored.
    Closed,
}

/// A connection that is being listened to.
pub(crate) struct Listening {
    limits: Limits,
    parser: Parser,
    exchange: Exchange,
    head: Head,
    fields: Vec<Field>,
    rest: Vec<u8>,
    heard: Conversation,
}

impl Listening {
    pub(crate) fn new(limits: Limits) -> Listening {
        Listening {
            parser: Parser::new(limits.clone()),
            limits,
            exchange: Exchange::new(),
            head: Head::default(),
            fields: Vec::new(),
            rest: Vec::new(),
            heard: Conversation::default(),
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        // Whole requests are looked at where they lie, as the server does.
        if self.rest.is_empty() {
            let used = self.listen(piece);
            self.rest.extend_from_slice(&piece[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(piece);
            let used = self.listen(&rest);
            rest.drain(..used);
            self.rest = rest;
        }
    }

    /// The client has ended.
    pub(crate) fn finish(mut self) -> Conversation {
        if self.heard.end == End::Idle {
            self.heard.end = match self.exchange.stage() {
                Stage::Idle if self.rest.iter().all(|b| matches!(b, b'\r' | b'\n')) => End::Idle,
                Stage::Idle => End::InHead,
                _ => End::InBody,
            };
        }
        self.heard
    }

    /// Comes back with the number of bytes used.
    fn listen(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        while self.heard.end == End::Idle && used < input.len() {
            let rest = &input[used..];
            let step = match self.exchange.stage() {
                Stage::Idle => self.take_head(rest),
                Stage::Reading => self.take_body(rest),
                stage => unreachable!("{stage:?} lasts no longer than the answer"),
            };
            if step == 0 {
                return used;
            }
            used += step;
        }
        // What stands behind the end is ignored.
        if self.heard.end == End::Idle { used } else { input.len() }
    }

    fn take_head(&mut self, input: &[u8]) -> usize {
        match self.parser.parse(input, &mut self.head, &mut self.fields) {
            Parse::Complete(()) => {}
            Parse::Partial => return 0,
            Parse::Error(why) => {
                self.heard.end = End::HeadRefused(why);
                return input.len();
            }
        }
        let (head, bytes) = (&self.head, self.head.bytes(input));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is ASCII");
        let mut target = normal(&text(&bytes[head.path.range()]));
        if let Some(query) = head.query {
            target = format!("{target}?{}", text(&bytes[query.range()]));
        }
        self.heard.requests.push(Heard {
            method: text(&bytes[head.method.range()]),
            target,
            host: text(&bytes[head.host.range()]),
            has_content: !matches!(head.framing, Framing::None | Framing::Length(0)),
            expects_continue: head.expect_continue,
            body: Vec::new(),
        });
        if let Err(why) = self.exchange.begin(&self.head, &self.limits) {
            self.heard.end = End::BodyRefused(why);
        } else if self.exchange.stage() == Stage::Read {
            self.answer();
        }
        self.head.used()
    }

    fn take_body(&mut self, input: &[u8]) -> usize {
        match self.exchange.decode(input) {
            Ok(decoded) => {
                assert!(decoded.used > 0 || decoded.is_end, "no progress in {input:?}");
                self.last().body.extend_from_slice(&input[decoded.data]);
                if self.exchange.stage() == Stage::Read {
                    self.answer();
                }
                decoded.used
            }
            Err(why) => {
                self.heard.end = End::BodyRefused(why);
                input.len()
            }
        }
    }

    fn answer(&mut self) {
        self.exchange.finish_answer(self.exchange.persists(&self.limits), &self.limits);
        if self.exchange.stage() == Stage::Closing {
            self.heard.end = End::Closed;
        }
    }

    fn last(&mut self) -> &mut Heard {
        self.heard.requests.last_mut().expect("a body follows a head")
    }
}

/// What is heard of these pieces.
pub(crate) fn listen<'p>(limits: &Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Conversation {
    let mut listening = Listening::new(limits.clone());
    for piece in pieces {
        listening.push(piece);
    }
    listening.finish()
}

impl Conversation {
    /// How many answers the client gets, 100 Continue not counted: one for each request, one for the bytes behind them that
    /// are none.
    pub(crate) fn answers(&self) -> usize {
        self.requests.len() + usize::from(matches!(self.end, End::InHead | End::HeadRefused(_)))
    }
}

/// A path as RFC 3986 section 6.2.2 would have it, by hand: of its escapes only those of unreserved characters are undone.
fn normal(path: &str) -> String {
    let mut parts = path.split('%');
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        match u8::from_str_radix(digits, 16).map(char::from) {
            Ok(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => normal.push(c),
            _ => normal.extend(["%", &digits.to_ascii_uppercase()]),
        }
        normal += rest;
    }
    normal
}
