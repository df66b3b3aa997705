//! Certificates that are refused, by either side, and in which words.

use std::io;

use annulet_tls::{AcceptorBuilder, ClientAuth, ConnectorBuilder, TlsConnector, TlsError};

use crate::support::{Authority, shake};

fn tls_error(error: &io::Error) -> &TlsError {
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("an error of TLS")
}

/// A client that refuses the server: what it says, and what the server hears.
async fn check(connector: ConnectorBuilder, acceptor: AcceptorBuilder, words: &str, alert: &str) {
    let (client, server) = shake(&connector.build().unwrap(), "localhost", &acceptor.build().unwrap()).await;
    let error = client.unwrap_err();
    assert!(tls_error(&error).is_certificate(), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    let heard = server.unwrap_err();
    assert!(tls_error(&heard).is_refused_by_peer(), "{heard}");
    assert!(heard.to_string().contains(alert), "{heard}");
}

#[annulet::test]
async fn clients_refuse_what_they_cannot_trust() {
    let authority = Authority::new();
    let connector = || authority.connector();
    let good = authority.sign(&["localhost"]);

    check(Authority::new().connector(), good.acceptor(), "signed by no known authority", "UnknownCA").await;
    let other = authority.sign(&["other.example"]);
    check(connector(), other.acceptor(), "not for localhost, but for other.example", "BadCertificate").await;
    let expired = authority.sign_with(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    check(connector(), expired.acceptor(), "has expired", "CertificateExpired").await;
    let unborn = authority.sign_with(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(4000, 1, 1);
        params.not_after = rcgen::date_time_ymd(4001, 1, 1);
    });
    check(connector(), unborn.acceptor(), "not valid yet", "CertificateExpired").await;
    // As `openssl req -x509` makes them.
    let itself = authority.sign_with(&["localhost"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    check(connector(), itself.acceptor(), "is that of an authority", "CertificateUnknown").await;
}

#[annulet::test]
async fn the_dangerous_connector_takes_them_all() {
    let stranger = Authority::new();
    let expired = stranger.sign_with(&["other.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let connector = TlsConnector::danger_accept_invalid().build().unwrap();
    let (client, server) = shake(&connector, "localhost", &expired.acceptor().build().unwrap()).await;
    client.unwrap();
    server.unwrap();
}

#[annulet::test]
async fn protocols_without_overlap_are_refused() {
    let authority = Authority::new();
    let acceptor = authority.sign(&["localhost"]).acceptor().alpn(["h2"]).build().unwrap();
    let connector = authority.connector().alpn(["http/1.1"]).build().unwrap();
    let (client, server) = shake(&connector, "localhost", &acceptor).await;
    for error in [client.unwrap_err(), server.unwrap_err()] {
        assert!(error.to_string().contains("none of our ALPN protocols"), "{error}");
    }
}

#[annulet::test]
async fn a_name_that_is_none() {
    let authority = Authority::new();
    let acceptor = authority.sign(&["localhost"]).acceptor().build().unwrap();
    let connector = authority.connector().build().unwrap();
    let (client, server) = shake(&connector, "not a name", &acceptor).await;
    let error = client.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("neither a host name nor an IP address"), "{error}");
    assert_eq!(server.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[annulet::test]
async fn clients_certificates_are_asked_for_and_checked() {
    let authority = Authority::new();
    let people = Authority::new();
    let identity = authority.sign(&["localhost"]);
    let acceptor = |auth| identity.acceptor().client_roots(people.root.as_bytes(), auth).build().unwrap();
    let (required, optional) = (acceptor(ClientAuth::Required), acceptor(ClientAuth::Optional));
    let client = |authority_of_client: &Authority| {
        let person = authority_of_client.sign(&["somebody"]);
        let connector = authority.connector().certificate(person.chain.as_bytes(), person.key.as_bytes());
        (connector.build().unwrap(), person)
    };
    let nobody = authority.connector().build().unwrap();

    let (somebody, person) = client(&people);
    for acceptor in [&required, &optional] {
        let (client, server) = shake(&somebody, "localhost", acceptor).await;
        client.unwrap();
        assert_eq!(server.unwrap().peer_certificates(), std::slice::from_ref(&person.der));
    }
    let (client_side, server) = shake(&nobody, "localhost", &optional).await;
    client_side.unwrap();
    assert!(server.unwrap().peer_certificates().is_empty());

    // TLS 1.3: the client is done before the server has looked, and hears of it when it reads.
    let (stranger, _) = client(&authority);
    for (connector, words, alert) in [
        (&nobody, "requires one", "client certificate"),
        (&stranger, "signed by no known authority", "does not know the authority"),
    ] {
        let (client, server) = shake(connector, "localhost", &required).await;
        let refused = server.unwrap_err();
        assert!(tls_error(&refused).is_certificate(), "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
        let heard = client.unwrap().recv().await.unwrap_err();
        assert!(heard.to_string().contains(alert), "{heard}");
    }
}

/// Before it has been answered, nobody needs so much.
#[annulet::test]
async fn a_client_hello_without_end() {
    let acceptor = Authority::new().sign(&["localhost"]).acceptor().build().unwrap();
    let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = annulet::spawn(async move { acceptor.accept(listener.accept().await.unwrap()).await });
    let client = annulet::net::TcpStream::connect(address).await.unwrap();
    // 60 KiB are announced, in records of 16 KiB, and 48 KiB sent.
    let first = [&b"\x16\x03\x01\x40\x00\x01\x00\xf0\x00"[..], &[0; 16_380]].concat();
    let other = [&b"\x16\x03\x01\x40\x00"[..], &[0; 16_384]].concat();
    for record in [&first, &other, &other] {
        let _ = client.write_all(record).await;
    }
    let server = annulet::time::timeout(std::time::Duration::from_secs(60), server).await;
    let error = server.expect("it is refused").unwrap().unwrap_err();
    assert!(tls_error(&error).to_string().contains("HandshakePayloadTooLarge"), "{error}");
    assert_eq!(annulet_tls::undecrypted_bytes(), 0);
}
