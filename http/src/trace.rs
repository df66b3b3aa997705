//! A span of the crate `tracing` for each request that is routed, with the feature `tracing`. Without it nothing of this is compiled;
//! with it and without a subscriber that wants spans of this crate, a request costs a test more.
//!
//! The span has the name `request` and the fields `method`, `path` (without its query, which may hold secrets) and `status`.
//! The handler runs in it, each time that it is polled. It ends with the answer, before the content of one that is made while it
//! leaves; a request that is refused before it is routed has none.
use std::task::Context;

use crate::handler::PendingCall;
use crate::request::Request;
use crate::response::Response;
use crate::router::{Miss, Router, Target};

/// [`Router::call`] in a span.
#[cfg(not(feature = "tracing"))]
#[inline]
pub(crate) fn call(
    router: &Router,
    target: Target,
    request: Request,
    cx: &mut Context<'_>,
    answer: &mut Option<Response>,
) -> Option<PendingCall> {
    router.call(target, request, cx, answer)
}

/// [`Router::answer`] in a span.
#[cfg(not(feature = "tracing"))]
#[inline]
pub(crate) fn miss(router: &Router, miss: Miss, _: &Request) -> Response {
    router.answer(miss)
}

#[cfg(feature = "tracing")]
pub(crate) use spans::{call, miss};

#[cfg(feature = "tracing")]
mod spans {
    use std::pin::Pin;
    use std::task::Poll;

    use http::StatusCode;
    use tracing::Span;
    use tracing::field::Empty;

    use super::*;

    #[inline]
    fn span(request: &Request) -> Span {
        tracing::info_span!("request", method = %request.method(), path = request.path(), status = Empty)
    }

    /// A span whose request has not been answered. Dropped by a panic of the handler, it has the status that stands for it.
    struct Open(Span);

    impl Open {
        fn close(self, answer: &Response) {
            self.0.record("status", answer.status().as_u16());
        }

        /// Closes it, or keeps it open for the answer behind an interim one.
        fn close_behind(self, answer: &mut Response) {
            if answer.is_interim() {
                answer.map_interim(|call| Box::pin(Traced { call, open: Some(self) }));
            } else {
                self.close(answer);
            }
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.record("status", StatusCode::INTERNAL_SERVER_ERROR.as_u16());
            }
        }
    }

    #[inline]
    pub(crate) fn call(
        router: &Router,
        target: Target,
        request: Request,
        cx: &mut Context<'_>,
        answer: &mut Option<Response>,
    ) -> Option<PendingCall> {
        let span = span(&request);
        if span.is_disabled() {
            return router.call(target, request, cx, answer);
        }
        call_in(Open(span), router, target, request, cx, answer)
    }

    #[cold]
    fn call_in(
        open: Open,
        router: &Router,
        target: Target,
        request: Request,
        cx: &mut Context<'_>,
        answer: &mut Option<Response>,
    ) -> Option<PendingCall> {
        let waits = open.0.in_scope(|| router.call(target, request, cx, answer));
        match (waits, answer) {
            (Some(call), _) => Some(Box::pin(Traced { call, open: Some(open) })),
            (None, Some(answer)) => {
                open.close_behind(answer);
                None
            }
            (None, None) => None,
        }
    }

    pub(crate) fn miss(router: &Router, miss: Miss, request: &Request) -> Response {
        let open = Open(span(request));
        let answer = open.0.in_scope(|| router.answer(miss));
        open.close(&answer);
        answer
    }

    /// A call that waits, in its span.
    struct Traced {
        call: PendingCall,
        /// Until there is an answer.
        open: Option<Open>,
    }

    impl Future for Traced {
        type Output = Response;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
            // Out of it meanwhile: if the handler panics, it is dropped by that.
            let Some(open) = self.open.take() else { return self.call.as_mut().poll(cx) };
            let mut polled = open.0.in_scope(|| self.call.as_mut().poll(cx));
            match &mut polled {
                Poll::Ready(answer) => open.close_behind(answer),
                Poll::Pending => self.open = Some(open),
            }
            polled
        }
    }
}
