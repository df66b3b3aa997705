//! TLS as flags, and certificates that are read again on SIGHUP.
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use annulet::signal::unix::{SignalKind, signal};
use annulet_http::tls::{ClientAuth, TlsAcceptor};
use clap::Args;

/// Serving over TLS.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsOptions {
    /// Speak TLS, on every address: the server's certificate and those between it and its authority, in PEM. Of several pairs a
    /// client gets the one for the name that it asks for. SIGHUP reads all files again.
    #[arg(long, value_name = "FILE")]
    tls_cert: Vec<PathBuf>,

    /// The key of the certificate, in PEM, not encrypted: one for each --tls-cert, in the same order.
    #[arg(long, value_name = "FILE")]
    tls_key: Vec<PathBuf>,

    /// Let only clients in that show a certificate signed by one of these authorities, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
}

impl TlsOptions {
    /// What makes TLS of accepted connections; `None` when they are to stay as they are.
    ///
    /// # Errors
    ///
    /// What cannot be read or used, by the name of its file.
    pub(crate) fn acceptor(&self) -> io::Result<Option<TlsAcceptor>> {
        let (certs, keys) = (self.tls_cert.len(), self.tls_key.len());
        if certs != keys {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "--tls-cert and --tls-key belong together: there are {certs} of the one and {keys} of the other"
                ),
            ));
        }
        if certs == 0 {
            return Ok(None);
        }
        let mut builder = TlsAcceptor::builder().alpn(["http/1.1"]);
        for (cert, key) in self.tls_cert.iter().zip(&self.tls_key) {
            builder = builder.certificate_files(cert, key);
        }
        if let Some(roots) = &self.tls_client_ca {
            builder = builder.client_roots_file(roots, ClientAuth::Required);
        }
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot speak TLS: {error}"));
        builder.build().map(Some).map_err(failed)
    }
}

/// Reads the files again at each SIGHUP. To be run by one loop of the process, for all of them. Tells `heard` when it listens: before
/// that the signal would end the process.
pub(crate) async fn reload_on_hangup(acceptor: TlsAcceptor, heard: Sender<()>) {
    let hangups = signal(SignalKind::hangup());
    // Nobody waits for it if another loop could not be started.
    let _ = heard.send(());
    let mut hangups = match hangups {
        Ok(hangups) => hangups,
        Err(error) => return eprintln!("annulet-serve: SIGHUP will not be heard: {error}"),
    };
    loop {
        hangups.recv().await;
        let again = acceptor.clone();
        // It reads files and checks signatures.
        match annulet::spawn_blocking(move || again.reload()).await {
            Ok(Ok(())) => eprintln!("annulet-serve: SIGHUP: the certificates were read again"),
            Ok(Err(error)) => eprintln!("annulet-serve: SIGHUP: the old certificates stay: {error}"),
            Err(error) => eprintln!("annulet-serve: SIGHUP: the old certificates stay: {error}"),
        }
    }
}

/// Reads the certificates again: a worker takes another's place, which SIGHUP asks for. If that fails the old ones stay.
pub(crate) fn reload(acceptor: &TlsAcceptor) {
    match acceptor.reload() {
        Ok(()) => eprintln!("annulet-serve: the certificates were read again"),
        Err(error) => eprintln!("annulet-serve: the old certificates stay: {error}"),
    }
}
