//! What is said to who speaks without TLS where TLS is expected: the same as by `annulet-http`.
use std::time::{Duration, SystemTime};

use annulet_tls::{Plain, Transport};

/// For the client to take the answer, as `annulet-http` has it.
const LINGER: Duration = Duration::from_secs(2);

/// Says what is wrong, and closes.
pub(crate) async fn tell<S: Transport>(plain: Plain<S>) {
    let Plain { stream, received } = plain;
    stream.with_send_buffer(|out| out.extend_from_slice(answer(&received).as_bytes()));
    drop(received);
    // An error ends the connection, which is what happens next anyway.
    let _ = stream.close(LINGER).await;
}

fn answer(received: &[u8]) -> String {
    // The PROXY protocol of load balancers, its versions 1 and 2.
    let is_header = received.starts_with(b"PROXY ") || received.starts_with(b"\r\n\r\n\0\r\nQUIT\n");
    let why = if is_header {
        "a PROXY header, which this server does not expect\n"
    } else {
        "HTTP without TLS, to a port that expects TLS: use https://\n"
    };
    let date = httpdate::fmt_http_date(SystemTime::now());
    let length = why.len();
    // RFC 9110 section 9.3.2: no content.
    let content = if received.starts_with(b"HEAD ") { "" } else { why };
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\ndate: {date}\r\n\r\n{content}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |received: &[u8], content: &str| {
            let answer = answer(received);
            let (head, said) = answer.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with("HTTP/1.1 400 Bad Request\r\n") && head.contains("\r\ndate: "),
                "{head}"
            );
            assert_eq!(said, content);
            assert!(said.is_empty() || head.contains(&format!("\r\ncontent-length: {}\r\n", said.len())));
        };
        let tls = "HTTP without TLS, to a port that expects TLS: use https://\n";
        check(b"GET / HTTP/1.1\r\n", tls);
        check(b"P", tls);
        check(b"HEAD / HTTP/1.1\r\n", "");
        let header = "a PROXY header, which this server does not expect\n";
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n\x16\x03", header);
        check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11", header);
    }
}
