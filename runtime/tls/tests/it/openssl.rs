//! The same with somebody else's TLS on the other side: `openssl s_client` and `s_server`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use annulet::net::{TcpListener, TcpStream};
use annulet_tls::Version;

use crate::support::{Authority, TIME_MAX};

/// Whether the program is there; says so if it is not.
fn is_there() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: there is no `openssl` on this machine");
    }
    found
}

/// Ends with the test.
struct Openssl(Child);

impl Openssl {
    fn start(arguments: &[&str]) -> Openssl {
        let mut command = Command::new("openssl");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Openssl(command.spawn().unwrap())
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An echo for one `s_client` with `arguments`.
fn check_client(arguments: &[&str], version: Version) {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.pem");
    std::fs::write(&root, &authority.root).unwrap();
    let acceptor = authority.sign(&["localhost"]).acceptor().alpn(["echo"]).build().unwrap();
    annulet::run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let client = annulet::spawn_blocking(move || client(address, &root, &arguments));
        let stream = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
        assert_eq!(stream.version(), version);
        assert_eq!(stream.alpn(), Some(&b"echo"[..]));
        assert_eq!(stream.server_name(), Some("localhost"));
        let bytes = stream.recv().await.unwrap().unwrap();
        stream.write_all(&bytes).await.unwrap();
        // s_client sends close_notify when its input ends.
        assert!(stream.recv().await.unwrap().is_none());
        stream.close(TIME_MAX).await.unwrap();
        assert_eq!(client.await.unwrap(), "hello openssl\n");
    });
}

fn client(address: SocketAddr, root: &Path, more: &[String]) -> String {
    let address = address.to_string();
    let mut arguments = vec!["s_client", "-connect", &address, "-servername", "localhost", "-alpn", "echo"];
    arguments.extend(["-CAfile", root.to_str().unwrap(), "-verify_return_error", "-quiet", "-no_ign_eof"]);
    arguments.extend(more.iter().map(String::as_str));
    let mut openssl = Openssl::start(&arguments);
    openssl.0.stdin.as_mut().unwrap().write_all(b"hello openssl\n").unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(openssl.0.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    drop(openssl.0.stdin.take());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    line + &rest
}

#[test]
fn s_client_talks_to_our_server() {
    if is_there() {
        check_client(&["-tls1_3"], Version::Tls13);
        check_client(&["-tls1_2"], Version::Tls12);
    }
}

/// One line to an `s_server -rev`, which gives it back in reverse.
fn check_server(arguments: &[&str], version: Version) {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let identity = authority.sign(&["localhost"]);
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, &identity.chain).unwrap();
    std::fs::write(&key, &identity.key).unwrap();
    let mut all = vec!["s_server", "-accept", "127.0.0.1:0", "-rev"];
    all.extend(["-cert", chain.to_str().unwrap(), "-key", key.to_str().unwrap()]);
    all.extend(arguments);
    let mut openssl = Openssl::start(&all);
    let mut lines = BufReader::new(openssl.0.stdout.take().unwrap()).lines();
    let address = lines
        .find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned))
        .expect("s_server says where it listens");
    // Its further output must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    annulet::run(async move {
        let connector = authority.connector().build().unwrap();
        let stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).await.unwrap();
        let connected = annulet::time::timeout(TIME_MAX, connector.connect("localhost", stream)).await;
        let stream = connected.expect("in time").unwrap();
        assert_eq!(stream.version(), version);
        stream.write_all(b"hello\n").await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"olleh\n");
        stream.close(TIME_MAX).await.unwrap();
    });
}

#[test]
fn our_client_talks_to_s_server() {
    if is_there() {
        check_server(&["-tls1_3"], Version::Tls13);
        check_server(&["-tls1_2"], Version::Tls12);
    }
}
