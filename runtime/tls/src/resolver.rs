//! Which of a server's certificates a client gets.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The first certificate that is for the name that the client asked for, wildcards included, and whose kind of key the
/// client can check; without such a one the first. A client that cares refuses it, and says why.
#[derive(Debug)]
pub(crate) struct ByName(pub(crate) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.0.first()?;
        if self.0.len() == 1 {
            return Some(Arc::clone(first));
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_named = |key: &CertifiedKey| {
            let Some(name) = &name else { return false };
            let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
            parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
        };
        let is_usable = |key: &CertifiedKey| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = self.0.iter().find(|key| is_usable(key) && is_named(key));
        let chosen = named.or_else(|| self.0.iter().find(|key| is_usable(key))).unwrap_or(first);
        Some(Arc::clone(chosen))
    }
}
