//! What the tests share.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_tls::{AcceptorBuilder, ConnectorBuilder, TlsAcceptor, TlsConnector, TlsStream};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// No test waits for longer.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(30);

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root: String,
}

/// A certificate and its key, in PEM; the certificate in DER too.
pub(crate) struct Identity {
    pub(crate) der: Vec<u8>,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Authorities are looked up by their names.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn sign(&self, names: &[&str]) -> Identity {
        self.sign_with(names, |_| {})
    }

    pub(crate) fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "somebody");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (der, chain) = (certificate.der().to_vec(), certificate.pem());
        Identity { der, chain, key: key.serialize_pem() }
    }

    /// Believes this authority.
    pub(crate) fn connector(&self) -> ConnectorBuilder {
        TlsConnector::builder().root_pem(self.root.as_bytes())
    }
}

impl Identity {
    pub(crate) fn acceptor(&self) -> AcceptorBuilder {
        TlsAcceptor::builder().certificate(self.chain.as_bytes(), self.key.as_bytes())
    }
}

/// A connected pair on this loop: (client, server).
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = annulet::spawn(async move { TcpStream::connect(address).await.unwrap() });
    let server = listener.accept().await.unwrap();
    (client.await.unwrap(), server)
}

/// Both sides' results of a handshake: (client, server).
pub(crate) async fn shake(
    connector: &TlsConnector,
    name: &str,
    acceptor: &TlsAcceptor,
) -> (io::Result<TlsStream>, io::Result<TlsStream>) {
    let (client, server) = tcp_pair().await;
    let both = annulet::join(connector.connect(name, client), acceptor.accept(server));
    annulet::time::timeout(TIME_MAX, both).await.expect("a handshake is over in time")
}

/// A pair that speaks TLS, with nothing special about it: (client, server).
pub(crate) async fn tls_pair() -> (TlsStream, TlsStream) {
    let authority = Authority::new();
    let acceptor = authority.sign(&["localhost"]).acceptor().build().unwrap();
    let (client, server) = shake(&authority.connector().build().unwrap(), "localhost", &acceptor).await;
    (client.unwrap(), server.unwrap())
}

/// The byte at a place of the endless stream that every connection carries.
pub(crate) fn pattern(position: usize) -> u8 {
    ((position as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

pub(crate) fn stretch(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(pattern).collect()
}
