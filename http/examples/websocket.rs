//! WebSockets by async-tungstenite, over a connection that HTTP has left: an echo that counts.
//!
//! annulet-http does the part of HTTP (RFC 6455 section 4), the crate that of the frames. The stream has the traits of
//! `futures-io`, with TLS or without, so any crate over these will do.
//!
//! What a client can make the server keep has a bound: a message, what waits to be read by the client, and how long it is silent.
//! What is not done: to look at `Origin`. Where cookies say who somebody is, compare it, or pages of other sites speak in their name.
//!
//! ```text
//! cargo run --release --example websocket -- 127.0.0.1:8000
//! ```
use std::time::Duration;

use annulet::net::TcpListener;
use annulet::time::timeout;
use annulet_http::{HeaderValue, Request, Response, Router, Server, Upgraded, header};
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use futures_util::StreamExt;

/// The one version there is (RFC 6455 section 4.4).
const VERSION: &[u8] = b"13";

/// A client that wants to send more at once is closed. In bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What may wait for a client that reads nothing, in bytes. Pongs gather there too, and there is no such bound unless one is set.
const UNSENT_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// A client that says nothing for so long, not even a ping or a pong, is closed; and so is one that takes nothing.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Answers 101 to a client that asks for a WebSocket as it should.
async fn echo(request: Request) -> Response {
    let version = HeaderValue::from_static("13");
    let wrong = Response::upgrade_required("websocket").with_header(header::SEC_WEBSOCKET_VERSION, version);
    let Some(key) = request.header("sec-websocket-key").map(derive_accept_key) else { return wrong };
    if request.header("sec-websocket-version") != Some(VERSION) {
        return wrong;
    }
    let Some(answer) = request.upgrade("websocket", serve) else { return wrong };
    let key = HeaderValue::try_from(key).expect("base64 is visible ASCII");
    answer.with_header(header::SEC_WEBSOCKET_ACCEPT, key)
}

/// Has the connection from the 101 on.
async fn serve(connection: Upgraded) {
    if let Err(error) = talk(connection).await
        && !matches!(error, Error::ConnectionClosed)
    {
        eprintln!("a WebSocket ended: {error}");
    }
}

async fn talk(connection: Upgraded) -> Result<(), Error> {
    let Upgraded { stream, buffered } = connection;
    // A frame as well: one is read whole before its message is looked at.
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .write_buffer_size(0)
        .max_write_buffer_size(UNSENT_BYTES_MAX);
    let mut socket =
        WebSocketStream::from_partially_read(stream, buffered.to_vec(), Role::Server, Some(limits)).await;
    let mut count = 0;
    // Pings are answered, and a close with a close, while the next message is waited for.
    while let Ok(Some(message)) = timeout(SILENCE_MAX, socket.next()).await {
        match message {
            Ok(Message::Text(text)) => {
                count += 1;
                let answer = Message::text(format!("{count}: {text}"));
                let Ok(sent) = timeout(SILENCE_MAX, socket.send(answer)).await else { break };
                sent?;
            }
            Ok(_) => {}
            Err(error) => {
                // RFC 6455 section 7.1.7. Whoever is gone cannot be told.
                let _ = timeout(SILENCE_MAX, socket.close(reason(&error))).await;
                return Err(error);
            }
        }
    }
    Ok(())
}

/// What a client is told that has broken a rule (RFC 6455 section 7.4.1).
fn reason(error: &Error) -> Option<CloseFrame> {
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return None,
    };
    Some(CloseFrame { code, reason: "".into() })
}

fn router() -> Router {
    Router::new().get("/echo", echo)
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    annulet::run(async {
        let listener = TcpListener::bind(&address)?;
        println!("listening on ws://{}/echo", listener.local_addr()?);
        Server::new(router()).serve(listener).await
    })
}

#[cfg(test)]
mod tests {
    use annulet::time::now;
    use annulet_http::{Client, Socket, StatusCode, client};
    use futures_util::AsyncReadExt;

    use super::*;

    /// A server, and the beginning of a request for a WebSocket.
    fn request() -> client::RequestBuilder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/echo", listener.local_addr().unwrap());
        drop(annulet::spawn(async move { Server::new(router()).serve(listener).await }));
        Client::new().get(url).upgrade("websocket")
    }

    #[test]
    fn the_echo_counts() {
        annulet::run(async {
            // The key and its answer are those of RFC 6455 section 1.3.
            let asked = request().header("sec-websocket-version", "13");
            let answer = asked.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.unwrap();
            assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let Upgraded { stream, buffered } = answer.upgraded().unwrap();
            assert!(buffered.is_empty());
            let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
            let long = "x".repeat(20_000);
            for (said, expected) in [("hello", "1: hello".to_owned()), (&long, format!("2: {long}"))] {
                socket.send(Message::text(said)).await.unwrap();
                assert!(socket.next().await.unwrap().unwrap() == Message::text(expected));
            }
            socket.send(Message::Ping("there?".into())).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("there?".into()));
            socket.close(None).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap().is_close());
            assert!(socket.next().await.is_none());
        });
    }

    /// A client's end of a WebSocket, whose frames the test makes.
    async fn open() -> Socket {
        let asked = request().header("sec-websocket-version", "13");
        let answer = asked.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.unwrap();
        answer.upgraded().unwrap().stream
    }

    /// A client's frame that is final, with a mask that changes nothing (RFC 6455 section 5.2).
    fn frame(opcode: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            _ => frame.extend([&[0x80 | 126][..], &length.to_be_bytes()].concat()),
        }
        frame.extend([0; 4]);
        frame.extend(content);
        frame
    }

    const TEXT: u8 = 1;
    const CLOSE: u8 = 8;
    const PING: u8 = 9;

    /// More than the kernel keeps of both directions, in bytes.
    const MUCH_BYTES: usize = 16 << 20;

    #[annulet::test(start_paused = true)]
    async fn who_is_silent_is_left() {
        let stream = open().await;
        let begun = now();
        assert!(stream.recv().await.unwrap().is_none());
        let waited = now() - begun;
        assert!(waited >= SILENCE_MAX && waited < SILENCE_MAX * 2, "{waited:?}");
    }

    /// With an answer that cannot leave, and with the last word to who breaks a rule.
    #[annulet::test(start_paused = true)]
    async fn who_takes_nothing_is_left() {
        let not_masked = [0x81, 0x01, b'a'];
        for (frame, last) in
            [(frame(TEXT, &[b'a'; 60_000]), &[][..]), (frame(PING, &[b'a'; 125]), &not_masked)]
        {
            let stream = open().await;
            let begun = now();
            let many = frame.repeat(64 * 1024 / frame.len());
            for _ in 0..MUCH_BYTES / many.len() {
                if stream.write_all(&many).await.is_err() {
                    break;
                }
            }
            // Nobody reads what follows; that the connection is gone shows when it is written.
            let _ = stream.write_all(last).await;
            while stream.write_all(&many).await.is_ok() {}
            let waited = now() - begun;
            assert!(waited >= SILENCE_MAX && waited < SILENCE_MAX * 2, "{waited:?}");
        }
    }

    /// Pongs that do not leave are not kept: the latest of them is enough (RFC 6455 section 5.5.3).
    #[test]
    fn what_waits_for_who_reads_nothing_is_bounded() {
        annulet::run(async {
            let stream = open().await;
            let ping = frame(PING, &[b'a'; 125]);
            let count = MUCH_BYTES / ping.len();
            for _ in 0..count / 500 {
                stream.write_all(&ping.repeat(500)).await.unwrap();
            }
            stream.write_all(&frame(CLOSE, &[])).await.unwrap();
            let mut pong_bytes = 0;
            while let Some(bytes) = stream.recv().await.unwrap() {
                pong_bytes += bytes.len();
            }
            // Two bytes of each are its head: it is not masked.
            assert!(pong_bytes < count / 500 * 500 * (2 + 125), "all pongs were kept");
            assert!(pong_bytes > UNSENT_BYTES_MAX);
        });
    }

    /// Each is closed with the code for it, before the rest of what it announces has come.
    #[test]
    fn who_breaks_a_rule_is_told() {
        annulet::run(async {
            // Two frames that are no more than one may be, but are too much together.
            let mut parts = frame(TEXT, &[b'a'; 60_000]);
            parts[0] = TEXT;
            parts.extend(frame(0, &[b'a'; 6_000]));
            for (frames, code) in [
                // Final, binary, masked, and one byte too long; nothing of it is here.
                (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0][..], 1009),
                (&parts, 1009),
                (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
                // Not masked.
                (&[0x81, 0x01, b'a'], 1002),
                (&[0x83, 0x80, 0, 0, 0, 0], 1002),
            ] {
                let mut stream = open().await;
                stream.write_all(frames).await.unwrap();
                let mut said = [0; 4];
                let read = timeout(Duration::from_secs(60), stream.read_exact(&mut said)).await;
                read.expect("it is told before the rest has come").unwrap();
                let [high, low] = u16::to_be_bytes(code);
                assert_eq!(said, [0x88, 2, high, low], "{frames:x?}");
            }
        });
    }

    #[test]
    fn who_asks_wrongly_is_told() {
        annulet::run(async {
            for asked in [
                request().header("sec-websocket-version", "13"),
                request().header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ] {
                let answer = asked.send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
                assert_eq!(answer.headers()["sec-websocket-version"], "13");
                assert_eq!(answer.headers()["upgrade"], "websocket");
                assert_eq!(answer.headers()["connection"], "upgrade");
            }
        });
    }
}
