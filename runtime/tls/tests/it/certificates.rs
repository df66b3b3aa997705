//! Which certificate and which protocol one gets, and what a reload changes.

use annulet_tls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::support::{Authority, Identity, shake};

#[annulet::test]
async fn alpn_takes_the_servers_preference() {
    let authority = Authority::new();
    let identity = authority.sign(&["localhost"]);
    let check = async |server: &[&str], client: &[&str], expected: Option<&str>| {
        let acceptor = identity.acceptor().alpn(server).build().unwrap();
        let connector = authority.connector().alpn(client).build().unwrap();
        let (client, server) = shake(&connector, "localhost", &acceptor).await;
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.alpn(), expected.map(str::as_bytes));
        assert_eq!(server.alpn(), expected.map(str::as_bytes));
    };
    check(&["h2", "http/1.1"], &["http/1.1", "h2"], Some("h2")).await;
    check(&["http/1.1"], &["h2", "http/1.1"], Some("http/1.1")).await;
    check(&["http/1.1"], &[], None).await;
    check(&[], &["h2"], None).await;
}

#[annulet::test]
async fn the_name_picks_the_certificate() {
    let authority = Authority::new();
    let first = authority.sign(&["one.example"]);
    let second = authority.sign(&["two.example", "*.three.example"]);
    let acceptor =
        first.acceptor().certificate(second.chain.as_bytes(), second.key.as_bytes()).build().unwrap();
    let connector = authority.connector().build().unwrap();
    for (name, identity) in [
        ("one.example", &first),
        ("two.example", &second),
        ("TWO.example", &second),
        ("any.three.example", &second),
    ] {
        let (client, server) = shake(&connector, name, &acceptor).await;
        assert_eq!(client.unwrap().peer_certificates()[0], identity.der, "{name}");
        assert_eq!(server.unwrap().server_name(), Some(name.to_lowercase().as_str()));
    }
    // Nobody's name: the first is shown, and the client says what is wrong with it.
    let (client, _) = shake(&connector, "four.example", &acceptor).await;
    let error = client.unwrap_err().to_string();
    assert!(error.contains("not for four.example") && error.contains("one.example"), "{error}");
}

#[annulet::test]
async fn an_ip_address_is_a_name() {
    let authority = Authority::new();
    let acceptor = authority.sign(&["127.0.0.1", "::1"]).acceptor().build().unwrap();
    let connector = authority.connector().build().unwrap();
    for name in ["127.0.0.1", "::1", "[::1]"] {
        let (client, server) = shake(&connector, name, &acceptor).await;
        client.unwrap();
        assert_eq!(server.unwrap().server_name(), None, "addresses are not sent (RFC 6066)");
    }
}

#[annulet::test]
async fn a_reload_reads_the_files_again_for_new_handshakes() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let write = |identity: &Identity| {
        std::fs::write(&chain, &identity.chain).unwrap();
        std::fs::write(&key, &identity.key).unwrap();
    };
    let (old, new) = (authority.sign(&["localhost"]), authority.sign(&["localhost"]));
    write(&old);
    let acceptor = TlsAcceptor::builder().certificate_files(&chain, &key).build().unwrap();
    let connector = authority.connector().build().unwrap();
    let shown = async |connector: &TlsConnector| -> (Vec<u8>, TlsStream, TlsStream) {
        let (client, server) = shake(connector, "localhost", &acceptor).await;
        let client = client.unwrap();
        (client.peer_certificates().swap_remove(0), client, server.unwrap())
    };
    let (der, client, server) = shown(&connector).await;
    assert_eq!(der, old.der);

    // A failed reload changes nothing and names the file.
    std::fs::write(&key, "nothing").unwrap();
    let error = acceptor.reload().unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("no unencrypted private key"), "{error}");
    assert_eq!(shown(&connector).await.0, old.der);

    write(&new);
    acceptor.clone().reload().unwrap();
    assert_eq!(shown(&connector).await.0, new.der);
    // The connection from before goes on.
    client.write_all(b"still here").await.unwrap();
    let mut all = [0; 10];
    server.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"still here");
}

#[test]
fn wrong_certificates_and_keys_are_told_apart() {
    let authority = Authority::new();
    let (one, two) = (authority.sign(&["one.example"]), authority.sign(&["two.example"]));
    let check = |chain: &str, key: &str, words: &str| {
        let built = TlsAcceptor::builder().certificate(chain.as_bytes(), key.as_bytes()).build();
        let error = built.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    check(&one.chain, &two.key, "does not belong to the certificate");
    check("", &one.key, "no certificate (BEGIN CERTIFICATE)");
    check(&one.key, &one.key, "no certificate (BEGIN CERTIFICATE)");
    check(&one.chain, &one.chain, "no unencrypted private key");
    let error = TlsAcceptor::builder().build().unwrap_err().to_string();
    assert!(error.contains("needs a certificate"), "{error}");
    let error = TlsAcceptor::builder().certificate_files("/nowhere.pem", "/nowhere.key").build().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("/nowhere.pem"), "{error}");
    let error = TlsConnector::builder().build().unwrap_err().to_string();
    assert!(error.contains("trust nobody"), "{error}");
}

#[test]
fn acceptors_and_connectors_go_to_other_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<TlsAcceptor>();
    check::<TlsConnector>();
}
