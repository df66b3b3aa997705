//! What is known of a connection, given to the service with each request.
use std::task::{Context, Poll};

use http::Request;
use tower_service::Service;

use crate::io::Transport;

/// A service whose requests have what is known of their connection among their extensions.
#[derive(Clone)]
pub(crate) struct Known<S> {
    service: S,
    #[cfg(feature = "tls")]
    tls: Option<annulet_tls::TlsInfo>,
}

impl<S> Known<S> {
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "then nothing is known"))]
    pub(crate) fn new(service: S, stream: &impl Transport) -> Known<S> {
        Known {
            service,
            #[cfg(feature = "tls")]
            tls: stream.tls_info(),
        }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Known<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    #[cfg_attr(not(feature = "tls"), expect(unused_mut))]
    fn call(&mut self, mut request: Request<B>) -> S::Future {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            request.extensions_mut().insert(tls.clone());
        }
        self.service.call(request)
    }
}
