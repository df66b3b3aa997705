//! A site that says what it heard, and whether its answers are those to the requests of a [`Conversation`].
use std::time::Duration;

use annulet_http::h1::head::Parse;
use annulet_http::h1::response::{Body, Framing, Parser};
use annulet_http::{Error, IntoResponse, Limits, Request, Response, Router};

use crate::model::{Conversation, End, Heard};

/// Small, so that many inputs are at a limit. No time runs out: a fuzzer may be stopped for a while.
pub(crate) fn limits() -> Limits {
    const LONG: Duration = Duration::from_secs(24 * 3600);
    Limits {
        head_timeout: LONG,
        body_timeout: LONG,
        body_total_timeout: LONG,
        body_rate_min: 0,
        keep_alive_timeout: LONG,
        write_timeout: LONG,
        head_bytes: 512,
        target_bytes: 128,
        line_bytes: 256,
        headers: 8,
        body_bytes: 200,
        chunk_extension_bytes: 16,
        trailer_bytes: 32,
        ..Limits::default()
    }
}

/// Answers each request with what was heard of it.
pub(crate) fn router() -> Router {
    async fn say(mut request: Request) -> Result<Response, Error> {
        let body = request.bytes(usize::MAX).await?;
        let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
        let said = said(&Heard {
            method: request.method().to_string(),
            target: format!("{}{query}", request.path()),
            host: request.host().to_owned(),
            body: body.into(),
            ..Heard::default()
        });
        Ok(said.into_response())
    }
    Router::new().fallback(say)
}

fn said(heard: &Heard) -> Vec<u8> {
    let Heard { method, target, host, body, .. } = heard;
    [format!("{method} {target} {host} ").as_bytes(), body].concat()
}

/// Whether these are the answers to that, and no more.
pub(crate) fn compare(heard: &Conversation, answers: &[u8]) -> Result<(), String> {
    let mut parser = Parser::new(Limits::default());
    let mut rest = answers;
    let mut is_over = false;
    for (nth, request) in heard.requests.iter().enumerate() {
        let is_last = nth + 1 == heard.requests.len();
        let is_cut = is_last && matches!(heard.end, End::InBody | End::BodyRefused(_));
        let Taken { status, content, keep_alive } =
            take_answer(&mut parser, &mut rest, request.method == "HEAD")
                .map_err(|why| format!("answer {}: {why}", nth + 1))?;
        // A method or a form of target that the router does not take is answered without a handler.
        let is_said = request.method == "HEAD" || content == said(request);
        match status {
            200 if is_cut => return Err(format!("answer {}: 200 for half a request", nth + 1)),
            200 if !is_said => return Err(format!("answer {}: what somebody else said", nth + 1)),
            200..=299 | 400..=599 => {}
            _ => return Err(format!("answer {}: {status}", nth + 1)),
        }
        // Where nobody asked for the body, whether it comes is not known (RFC 9110 section 10.1.1).
        if request.expects_continue && status != 200 && !keep_alive {
            is_over = true;
            break;
        }
    }
    if !is_over && heard.answers() > heard.requests.len() {
        let is_head = true;
        // Whether it is HEAD that is refused cannot be told from outside.
        let before = rest;
        let refused = take_answer(&mut parser, &mut rest, !is_head).or_else(|_| {
            rest = before;
            take_answer(&mut parser, &mut rest, is_head)
        });
        match refused {
            Ok(Taken { status: 400..=599, .. }) => {}
            other => return Err(format!("the refusal: {other:?}")),
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", rest.len())) }
}

/// A final answer.
#[derive(Debug)]
struct Taken {
    status: u16,
    content: Vec<u8>,
    keep_alive: bool,
}

/// Takes one answer, and interim ones before it.
fn take_answer(parser: &mut Parser, rest: &mut &[u8], to_head: bool) -> Result<Taken, String> {
    loop {
        let head = match parser.parse(rest, to_head) {
            Parse::Complete(head) => head,
            Parse::Partial if rest.is_empty() => return Err("there is none".into()),
            other => return Err(format!("{other:?}")),
        };
        *rest = &rest[head.len..];
        if head.framing == Framing::Close {
            return Err("its end is not told".into());
        }
        let mut body = Body::new(head.framing, &Limits::default());
        let mut content = Vec::new();
        loop {
            let decoded = body.decode(rest).map_err(|why| why.to_string())?;
            let (used, is_end) = (decoded.used, decoded.is_end);
            content.extend_from_slice(&rest[decoded.data]);
            *rest = &rest[used..];
            if is_end {
                break;
            }
            if used == 0 {
                return Err("half of its content".into());
            }
        }
        if !head.is_interim() {
            return Ok(Taken { status: head.status, content, keep_alive: head.keep_alive });
        }
    }
}
