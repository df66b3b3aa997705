//! Second connections without certificates.

use annulet_tls::{ClientAuth, HandshakeKind, TlsAcceptor, TlsConnector};

use crate::support::{Authority, shake};

/// A connection that carries a byte each way, so that tickets arrive. Gives how it began.
async fn once(connector: &TlsConnector, acceptor: &TlsAcceptor) -> HandshakeKind {
    let (client, server) = shake(connector, "localhost", acceptor).await;
    let (client, server) = (client.unwrap(), server.unwrap());
    let mut byte = [0];
    client.write_all(b"a").await.unwrap();
    server.read_exact(&mut byte).await.unwrap();
    server.write_all(b"b").await.unwrap();
    client.read_exact(&mut byte).await.unwrap();
    assert_eq!(client.handshake_kind(), server.handshake_kind());
    client.handshake_kind()
}

#[annulet::test]
async fn the_second_connection_resumes() {
    use HandshakeKind::{Full, Resumed};
    let authority = Authority::new();
    let identity = authority.sign(&["localhost"]);
    let check = async |acceptor: TlsAcceptor, connector: TlsConnector, expected| {
        assert_eq!(once(&connector, &acceptor).await, Full);
        assert_eq!(once(&connector, &acceptor).await, expected);
        assert_eq!(once(&connector.clone(), &acceptor.clone()).await, expected);
    };
    let connector = || authority.connector().build().unwrap();
    // Tickets; sessions that the server remembers; neither; a client that remembers nothing.
    check(identity.acceptor().build().unwrap(), connector(), Resumed).await;
    check(identity.acceptor().tickets(false).build().unwrap(), connector(), Resumed).await;
    check(identity.acceptor().tickets(false).sessions(0).build().unwrap(), connector(), Full).await;
    let forgetful = authority.connector().sessions(0).build().unwrap();
    check(identity.acceptor().build().unwrap(), forgetful, Full).await;
}

#[annulet::test]
async fn after_a_reload_nobody_comes_in_on_an_old_ticket() {
    let authority = Authority::new();
    let acceptor = authority.sign(&["localhost"]).acceptor().build().unwrap();
    let connector = authority.connector().build().unwrap();
    assert_eq!(once(&connector, &acceptor).await, HandshakeKind::Full);
    assert_eq!(once(&connector, &acceptor).await, HandshakeKind::Resumed);
    acceptor.reload().unwrap();
    assert_eq!(once(&connector, &acceptor).await, HandshakeKind::Full);
}

/// Neither with its certificate nor with the ticket that it was given for it.
#[annulet::test]
async fn after_a_reload_a_client_whose_root_is_gone_comes_in_no_more() {
    let (authority, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, &old.root).unwrap();
    let acceptor = authority.sign(&["localhost"]).acceptor();
    let acceptor = acceptor.client_roots_file(&roots, ClientAuth::Required).build().unwrap();
    let of = |authority_of_client: &Authority| {
        let person = authority_of_client.sign(&["somebody"]);
        authority.connector().certificate(person.chain.as_bytes(), person.key.as_bytes()).build().unwrap()
    };
    let (known, stranger) = (of(&old), of(&new));
    assert_eq!(once(&known, &acceptor).await, HandshakeKind::Full);
    assert_eq!(once(&known, &acceptor).await, HandshakeKind::Resumed);
    let refused = async |connector| shake(connector, "localhost", &acceptor).await.1.unwrap_err().to_string();
    let error = refused(&stranger).await;
    assert!(error.contains("signed by no known authority"), "{error}");

    std::fs::write(&roots, &new.root).unwrap();
    acceptor.reload().unwrap();
    let error = refused(&known).await;
    assert!(error.contains("signed by no known authority"), "{error}");
    assert_eq!(once(&stranger, &acceptor).await, HandshakeKind::Full);
}
