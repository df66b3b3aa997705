//! Which certificate and which protocol one gets, and what a reload changes.

use std::io::ErrorKind;
use std::process::Command;
use std::sync::Arc;

use annulet_tls::{TlsAcceptor, TlsConnector, TlsStream};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

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

/// Made by rustls, with whatever it can.
#[annulet::test]
async fn a_configuration_from_outside_is_replaced_by_another() {
    let authority = Authority::new();
    let (old, new) = (authority.sign(&["localhost"]), authority.sign(&["localhost"]));
    let config = |identity: &Identity| {
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![identity.der.clone().into()], key).unwrap())
    };
    let acceptor = TlsAcceptor::from_rustls_config(config(&old));
    let shown = async || {
        let connector = authority.connector().build().unwrap();
        shake(&connector, "localhost", &acceptor).await.0.unwrap().peer_certificates().swap_remove(0)
    };
    assert_eq!(shown().await, old.der);
    // There is nothing to read again.
    let error = acceptor.reload().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`replace`"), "{error}");
    assert_eq!(shown().await, old.der);
    acceptor.replace(config(&new));
    assert_eq!(shown().await, new.der);
}

/// In a process of its own, for which the environment names others than the machine's.
#[test]
fn the_systems_authorities_are_those_that_the_environment_names() {
    const NAME: &str = "certificates::the_systems_authorities_are_those_that_the_environment_names";
    let Some(roots) =
        std::env::var_os("SSL_CERT_FILE").filter(|_| std::env::var_os("ANNULET_INNER").is_some())
    else {
        let directory = tempfile::tempdir().unwrap();
        let inner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env("SSL_CERT_FILE", directory.path().join("roots.pem"))
            .env("ANNULET_INNER", "1")
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inner.stdout);
        assert!(inner.status.success() && said.contains("1 passed"), "{said}");
        return;
    };
    let (authority, other) = (Authority::new(), Authority::new());
    std::fs::write(roots, &authority.root).unwrap();
    let connector = TlsConnector::builder().native_roots().build().unwrap();
    annulet::run(async {
        for (signs, is_believed) in [(&authority, true), (&other, false)] {
            let acceptor = signs.sign(&["localhost"]).acceptor().build().unwrap();
            let (client, _server) = shake(&connector, "localhost", &acceptor).await;
            assert_eq!(client.is_ok(), is_believed);
        }
    });
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
    assert_eq!(error.kind(), ErrorKind::NotFound);
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
