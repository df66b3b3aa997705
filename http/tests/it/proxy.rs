//! A server behind a proxy: the PROXY protocol and forwarding fields, over sockets.
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::ForwardingField::{Forwarded, XForwarded};
use annulet_http::{Limits, Network, Request, Response, Router, Server};

use crate::client::read_all;

/// Says who asked.
fn router() -> Router {
    Router::new().get("/", async |request: Request| {
        let (peer, client) = (request.peer(), request.client());
        let proto = request.forwarded_proto().unwrap_or("-");
        // A later poll knows it as well.
        annulet::yield_now().await;
        let peer = peer.map_or("-".to_owned(), |peer| peer.ip().to_string());
        let client = client.map_or("-".to_owned(), |client| client.to_string());
        Response::text(format!("<{peer} {client} {proto}>"))
    })
}

/// All answers to these bytes, sent in pieces of that length.
fn ask(make: &dyn Fn(Server) -> Server, input: &[u8], piece: usize) -> String {
    annulet::run(async {
        let address = serve(Limits::default(), make);
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for bytes in input.chunks(piece) {
            // A server that has refused reads on for a while, and then is gone.
            if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        while let Ok(Some(lease)) = stream.recv().await {
            all.extend_from_slice(&lease);
        }
        String::from_utf8(all).unwrap()
    })
}

/// What stands between `<` and `>` in the answers to these bytes, sent in pieces of any length.
fn check(make: impl Fn(Server) -> Server, input: &[u8], expected: &str) {
    // Byte by byte only as long as that takes no time.
    let least = if input.len() < 1000 { 1 } else { 400 };
    for piece in [least, 7.max(least), input.len().max(1)] {
        let answers = ask(&make, input, piece);
        let told: Vec<&str> =
            answers.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0)).collect();
        let said = if told.is_empty() { answers.get(..12).unwrap_or("") } else { &told.join(", ") };
        assert_eq!(said, expected, "{} in pieces of {piece}", input.escape_ascii());
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn networks<const COUNT: usize>(texts: [&str; COUNT]) -> [Network; COUNT] {
    texts.map(|text| text.parse().unwrap())
}

fn behind_proxy(server: Server) -> Server {
    server.with_proxy_protocol(networks(["127.0.0.0/8"]))
}

#[test]
fn the_header_names_the_peer_for_all_requests_of_its_connection() {
    let with = |header: &str| format!("{header}{GET}{GET}").into_bytes();
    check(
        behind_proxy,
        &with("PROXY TCP4 192.0.2.1 198.51.100.1 5 80\r\n"),
        "192.0.2.1 192.0.2.1 -, 192.0.2.1 192.0.2.1 -",
    );
    check(
        behind_proxy,
        &with("PROXY TCP6 2001:db8::1 ::1 5 80\r\n"),
        "2001:db8::1 2001:db8::1 -, 2001:db8::1 2001:db8::1 -",
    );
    // The proxy asks for itself.
    check(behind_proxy, &with("PROXY UNKNOWN\r\n"), "127.0.0.1 127.0.0.1 -, 127.0.0.1 127.0.0.1 -");
    let two = |command: &[u8], rest: &[u8]| {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), command, &length, rest, GET.as_bytes()].concat()
    };
    let v4 = b"\xc0\0\x02\x07\xc0\0\x02\x08\0\x05\0\x50".as_slice();
    check(behind_proxy, &two(b"\x21\x11", v4), "192.0.2.7 192.0.2.7 -");
    // Additions are skipped, as many as are taken at all.
    let added = [v4, &[0xe0, 0x0f, 0xf1], &[b'\n'; 4081]].concat();
    check(behind_proxy, &two(b"\x21\x11", &added), "192.0.2.7 192.0.2.7 -");
    check(behind_proxy, &two(b"\x21\x11", &[added.as_slice(), b"x"].concat()), "HTTP/1.1 400");
    // LOCAL, a UNIX socket, a datagram.
    check(behind_proxy, &two(b"\x20\x11", v4), "127.0.0.1 127.0.0.1 -");
    check(behind_proxy, &two(b"\x21\x31", &[b'/'; 216]), "127.0.0.1 127.0.0.1 -");
    check(behind_proxy, &two(b"\x21\x12", v4), "127.0.0.1 127.0.0.1 -");
}

#[test]
fn what_is_no_header_of_a_proxy_is_refused() {
    let with = |header: &str| format!("{header}{GET}").into_bytes();
    let line = "PROXY TCP4 192.0.2.1 198.51.100.1 5 80\r\n";
    // Nothing is guessed.
    check(behind_proxy, GET.as_bytes(), "HTTP/1.1 400");
    check(behind_proxy, &with("PROXY TCP4 192.0.2.1 198.51.100.1 5 80\n"), "HTTP/1.1 400");
    // A second one is none.
    check(behind_proxy, &with(&[line, line].concat()), "HTTP/1.1 400");
    // Whoever only looks whether somebody is here, or goes away, is told nothing.
    check(behind_proxy, b"PROXY TCP4 192.0.2.1", "");
    check(behind_proxy, b"", "");
    // Strangers are refused with a header and without.
    let others = |server: Server| server.with_proxy_protocol(networks(["10.0.0.0/8", "::1"]));
    check(others, &with(line), "HTTP/1.1 403");
    check(others, GET.as_bytes(), "HTTP/1.1 403");
    // Who expects none takes it for a request, a bad one.
    check(|server| server, &with(line), "HTTP/1.1 400");
    check(|server| server, &with("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), "HTTP/1.1 400");
    let told = |make: &dyn Fn(Server) -> Server, input: &[u8]| ask(make, input, input.len());
    assert!(told(&behind_proxy, GET.as_bytes()).contains("no valid PROXY header"));
    assert!(told(&others, &with(line)).contains("that is none of their addresses"));
    assert!(
        told(&|server| server, &with(line)).contains("a PROXY header, which this server does not expect")
    );
}

#[test]
fn forwarding_fields_are_believed_of_trusted_proxies_only() {
    let with = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let fields = with("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-Proto: https\r\n");
    let trusting = |network: &'static str, field| {
        move |server: Server| server.with_trusted_proxies(networks([network]), field)
    };
    check(|server| server, &fields, "- - -");
    check(Server::with_client_addresses, &fields, "127.0.0.1 127.0.0.1 -");
    check(trusting("10.0.0.0/8", XForwarded), &fields, "127.0.0.1 127.0.0.1 -");
    check(trusting("127.0.0.0/8", XForwarded), &fields, "127.0.0.1 192.0.2.1 https");
    // The proxy writes one of the two; the other is the client's.
    let both = with(
        "Forwarded: for=6.6.6.6;proto=http, For=192.0.2.1;Proto=HTTPS\r\nX-Forwarded-For: 7.7.7.7\r\n\
         X-Forwarded-Proto: http\r\n",
    );
    check(trusting("127.0.0.0/8", Forwarded), &both, "127.0.0.1 192.0.2.1 https");
    check(trusting("127.0.0.0/8", XForwarded), &both, "127.0.0.1 7.7.7.7 http");
    check(trusting("127.0.0.0/8", Forwarded), &fields, "127.0.0.1 127.0.0.1 -");
    // A header before them: it names the proxy before last.
    let both = |server: Server| trusting("10.0.0.0/8", XForwarded)(behind_proxy(server));
    let header = b"PROXY TCP4 10.0.0.9 198.51.100.1 5 80\r\n".as_slice();
    check(both, &[header, &fields].concat(), "10.0.0.9 192.0.2.1 https");
    let stranger = b"PROXY TCP4 192.0.2.9 198.51.100.1 5 80\r\n".as_slice();
    check(both, &[stranger, &fields].concat(), "192.0.2.9 192.0.2.9 -");
}

#[test]
fn what_a_client_has_spoilt_does_not_hide_what_the_proxy_has_put_behind_it() {
    let with = |fields: &[u8]| [b"GET / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\n"].concat();
    let trusting =
        |field| move |server: Server| server.with_trusted_proxies(networks(["127.0.0.0/8"]), field);
    check(trusting(XForwarded), &with(b"X-Forwarded-For: \xff, 9.9.9.9"), "127.0.0.1 9.9.9.9 -");
    check(
        trusting(Forwarded),
        &with(b"Forwarded: for=\"\xff, for=9.9.9.9;proto=https"),
        "127.0.0.1 9.9.9.9 https",
    );
    // Nobody is not the proxy.
    check(trusting(XForwarded), &with(b"X-Forwarded-For: 9.9.9.9, \xff"), "127.0.0.1 - -");
    check(trusting(Forwarded), &with(b"Forwarded: for=unknown"), "127.0.0.1 - -");
}

/// RFC 9110 section 7.4.
#[test]
fn https_in_the_clear_is_for_trusted_gateways() {
    let secure = b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
    let trusting = |network: &'static str| {
        move |server: Server| server.with_trusted_proxies(networks([network]), XForwarded)
    };
    check(|server| server, secure, "HTTP/1.1 421");
    check(Server::with_client_addresses, secure, "HTTP/1.1 421");
    check(trusting("10.0.0.0/8"), secure, "HTTP/1.1 421");
    check(trusting("127.0.0.0/8"), secure, "127.0.0.1 127.0.0.1 -");
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.1 5 80\r\n".as_slice();
    check(behind_proxy, &[header, secure].concat(), "192.0.2.1 192.0.2.1 -");
}

/// A server with these limits on this loop; where it is.
fn serve(limits: Limits, make: impl Fn(Server) -> Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = make(Server::new(router()).with_limits(limits));
    drop(annulet::spawn(async move { server.serve(listener).await }));
    address
}

#[annulet::test(start_paused = true)]
async fn a_header_that_does_not_come_is_not_waited_for_longer_than_a_head() {
    let limits = Limits { head_timeout: Duration::from_secs(7), ..Limits::default() };
    let address = serve(limits, behind_proxy);
    for drips in [false, true] {
        let stream = TcpStream::connect(address).await.unwrap();
        let begun = annulet::time::now();
        for byte in b"PROXY TCP4 1".chunks(1) {
            if stream.write_all(byte).await.is_err() || stream.flush().await.is_err() {
                break;
            }
            if drips {
                annulet::time::sleep(Duration::from_secs(2)).await;
            }
            // Every byte that comes starts no clock anew.
            if annulet::time::now() - begun > Duration::from_secs(7) {
                break;
            }
        }
        assert_eq!(read_all(&stream).await, "");
        let waited = annulet::time::now() - begun;
        assert!((7..9).contains(&waited.as_secs()), "{waited:?}");
    }
}

#[test]
fn connections_are_counted_for_the_address_that_the_header_names() {
    let limits = || Limits { connections_per_address: 1, ..Limits::default() };
    // Answers of connections that stay open, one after the other.
    let check = |make: &dyn Fn(Server) -> Server, inputs: &[&str], expected: &[&str]| {
        annulet::run(async {
            let address = serve(limits(), make);
            let mut streams = Vec::new();
            for (input, expected) in inputs.iter().zip(expected) {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(format!("{input}{GET}").as_bytes()).await.unwrap();
                let answer = stream.recv().await.unwrap().unwrap();
                let code = String::from_utf8_lossy(&answer[9..12]).into_owned();
                assert_eq!(code, *expected, "{input:?} of {inputs:?}");
                streams.push(stream);
            }
        });
    };
    let (one, other) =
        ("PROXY TCP4 192.0.2.1 198.51.100.1 5 80\r\n", "PROXY TCP4 192.0.2.2 198.51.100.1 5 80\r\n");
    check(&behind_proxy, &[one, other, one, other], &["200", "200", "429", "429"]);
    // The same address, written otherwise.
    let mapped = "PROXY TCP6 ::ffff:192.0.2.1 ::1 5 80\r\n";
    check(&behind_proxy, &[one, mapped], &["200", "429"]);
    // A client has a network of IPv6, and no lack of addresses in it (RFC 6177).
    let of = |address: &str| format!("PROXY TCP6 {address} 2001:db8::80 5 80\r\n");
    let networks_of = [of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"), of("2001:db8:1:3::1")];
    check(&behind_proxy, &networks_of.each_ref().map(String::as_str), &["200", "429", "200"]);
    // Where nobody is named it is the proxy's own.
    check(&behind_proxy, &["PROXY UNKNOWN\r\n", one, "PROXY UNKNOWN\r\n"], &["200", "200", "429"]);
    // A trusted proxy has many clients.
    let trusting = |server: Server| server.with_trusted_proxies(networks(["127.0.0.1"]), XForwarded);
    check(&trusting, &["", "", ""], &["200", "200", "200"]);
    check(&|server| server, &["", ""], &["200", "429"]);
    let both =
        |server: Server| behind_proxy(server).with_trusted_proxies(networks(["192.0.2.1"]), XForwarded);
    check(&both, &[one, one, other, other], &["200", "200", "200", "429"]);
}

#[annulet::test]
async fn the_place_of_a_named_address_is_given_back() {
    let address = serve(Limits { connections_per_address: 1, ..Limits::default() }, behind_proxy);
    let ask = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        let input = format!("PROXY TCP4 192.0.2.1 198.51.100.1 5 80\r\n{GET}");
        stream.write_all(input.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&stream).await.starts_with("HTTP/1.1 200")
    };
    assert!(ask().await);
    // The server closes before it gives the place back.
    annulet::time::timeout(Duration::from_secs(60), async {
        while !ask().await {
            annulet::yield_now().await;
        }
    })
    .await
    .expect("the place of the first connection is free again");
}

/// A header that has been read holds nothing, however long the request behind it takes.
#[test]
fn a_header_that_was_read_holds_no_memory() {
    const HALF_BYTES: usize = 5000;
    annulet::run(async {
        let limits = Limits { memory_bytes: HALF_BYTES, head_bytes: 8192, ..Limits::default() };
        let address = serve(limits, behind_proxy);
        let begin = async |behind: &str| {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(b"PROXY TCP4 192.0.2.1 198.51.100.1 5 80\r\n").await.unwrap();
            stream.flush().await.unwrap();
            // Nobody says that it has been read.
            annulet::time::sleep(Duration::from_millis(300)).await;
            stream.write_all(behind.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let idle = begin("").await;
        let half = format!("{:x<HALF_BYTES$}", "GET / HTTP/1.1\r\nHost: a\r\nX: ");
        let other = begin(&half).await;
        annulet::time::sleep(Duration::from_millis(300)).await;
        other.write_all(b"\r\n\r\n").await.unwrap();
        other.flush().await.unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        let answer = read_all(&other).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(idle);
    });
}

#[test]
fn the_access_log_names_the_client() {
    use annulet_http::{AccessLog, LogFormat};
    use std::sync::Arc;

    let path = std::env::temp_dir().join(format!("annulet-log-proxied-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let file = Arc::new(std::fs::File::options().append(true).create(true).open(&path).unwrap());
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(router())
            .with_access_log(AccessLog::new(file, LogFormat::Common))
            .with_trusted_proxies(networks(["127.0.0.1"]), XForwarded);
        drop(annulet::spawn(async move { server.serve(listener).await }));
        let forwarded = "X-Forwarded-For: 6.6.6.6,192.0.2.1\r\n";
        let heads = [
            format!("GET /1 HTTP/1.1\r\nHost: a\r\n{forwarded}\r\n"),
            // What was no head to us may have been another to the proxy.
            format!("GET /2 HTTP/1.1\r\nHost: a\r\nX: a\n{forwarded}\r\n"),
            format!("GET /3 HTTP/1.1\r\nHost: a\r\n{forwarded}"),
        ];
        for head in heads {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(&stream).await;
        }
    });
    // The rest of the lines is written at the end of the loop.
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<_> = said.lines().map(|line| (line.split(' ').next(), line.contains("\" 400 "))).collect();
    let expected = [(Some("192.0.2.1"), false), (Some("127.0.0.1"), true), (Some("127.0.0.1"), true)];
    assert_eq!(lines, expected, "{said}");
}
