//! Certificates and keys in PEM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::error::{TlsError, invalid};
use crate::provider;

/// PEM text, or where it is.
#[derive(Clone)]
pub(crate) enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// A certificate chain and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Source,
    pub(crate) key: Source,
}

impl Source {
    pub(crate) fn bytes(bytes: &[u8]) -> Source {
        Source::Bytes(bytes.to_vec())
    }

    pub(crate) fn file(path: impl AsRef<Path>) -> Source {
        Source::File(path.as_ref().to_path_buf())
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Source::Bytes(bytes) => Ok(bytes.clone()),
            Source::File(path) => fs::read(path).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
            }),
        }
    }

    /// What stands before an error.
    fn name(&self) -> String {
        match self {
            Source::Bytes(_) => "the PEM text".to_owned(),
            Source::File(path) => path.display().to_string(),
        }
    }

    pub(crate) fn certificates(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        let bytes = self.read()?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| invalid(format!("{}: {error}", self.name())))?;
        if chain.is_empty() {
            return Err(invalid(format!("{}: no certificate (BEGIN CERTIFICATE) in it", self.name())));
        }
        Ok(chain)
    }

    fn key(&self) -> io::Result<PrivateKeyDer<'static>> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            invalid(match error {
                pem::Error::NoItemsFound => {
                    format!("{}: no unencrypted private key (BEGIN PRIVATE KEY) in it", self.name())
                }
                error => format!("{}: {error}", self.name()),
            })
        })
    }
}

impl Identity {
    /// The chain and the key, which must belong together.
    pub(crate) fn load(&self) -> io::Result<CertifiedKey> {
        let (chain, key) = (self.chain.certificates()?, self.key.key()?);
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let why = match error {
                rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
                error => TlsError::new(error).to_string(),
            };
            invalid(format!("{} and {}: {why}", self.chain.name(), self.key.name()))
        })
    }
}

/// Authorities from all of `sources`.
pub(crate) fn roots(sources: &[Source], into: &mut RootCertStore) -> io::Result<()> {
    for source in sources {
        for certificate in source.certificates()? {
            into.add(certificate).map_err(|error| {
                invalid(format!("{}: not the certificate of an authority: {error}", source.name()))
            })?;
        }
    }
    Ok(())
}
