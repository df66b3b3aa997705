//! hyper over tokio-rustls on a current_thread runtime: `peer-hyper-tls ADDRESS CORE CERTIFICATE KEY`. Only the index page.
//!
//! The configuration of rustls is that of annulet-tls: ring, tickets, 1024 sessions.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use peer_common::page;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, core, chain, key] = &arguments[..] else { panic!("usage: ADDRESS CORE CERTIFICATE KEY") };
    peer_common::pin(&[core.parse().expect("a core")]);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config(chain, key)));
    let listener = peer_common::listener(address.parse().expect("an address"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let serving = http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service_fn(serve));
                // The client's doing.
                let _ = serving.await;
            });
        }
    });
}

fn config(chain: &str, key: &str) -> rustls::ServerConfig {
    let chain = CertificateDer::pem_file_iter(chain).expect("a file").collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).expect("they belong together");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(1024);
    config.ticketer = rustls::crypto::ring::Ticketer::new().expect("randomness");
    config
}

async fn serve(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(page::INDEX.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page::HTML));
    Ok(response)
}
