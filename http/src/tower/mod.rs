//! A router as a tower service: handlers behind somebody else's server or layers, with the feature `tower`.
//!
//! A request comes as the `http` crate has it. Its head is written out and parsed as one that arrived would be, so that a handler
//! sees the same, and what our server refuses is refused here too. `annulet_hyper::serve` makes an HTTP/2 server of it; a test needs no
//! server at all.
//!
//! What it does not do: upgrades (answered 501), limits of time, connections and memory, which are its caller's. A body has its limit.
mod answer;
mod arrived;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Method, StatusCode};
use tower_service::Service as TowerService;

pub use answer::AnswerBody;

use crate::body::Body;
use crate::h1::head::{Parse, Parser};
use crate::h1::{Limits, Refusal};
use crate::handler::poll_call;
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::router::Router;
use crate::service::Service;
use crate::trace;

/// What errors of other people's bodies become.
type BoxError = Box<dyn StdError + Send + Sync>;

/// A [`Router`] as a `tower_service::Service`; see [`Router::into_service`]. Clones are the same.
#[derive(Clone)]
pub struct RouterService {
    shared: Rc<Shared>,
}

struct Shared {
    service: Service,
    limits: Limits,
}

impl Router {
    /// The same routes as a tower service from `http::Request` to `http::Response`, for one core: behind hyper and with it HTTP/2
    /// (`annulet_hyper::serve(listener, router.into_service())`), behind layers of tower that need no `Send`, or in a test.
    ///
    /// Of the `limits` those on heads and on the content of a request count.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Limits, Request, Router};
    /// use tower_service::Service;
    ///
    /// annulet::run(async {
    ///     let router = Router::new().get("/hello/{name}", async |request: Request| {
    ///         format!("hello, {}", request.param("name").unwrap_or_default())
    ///     });
    ///     let mut service = router.into_service(Limits::default());
    ///
    ///     let request = http::Request::get("http://a/hello/Ann").body(String::new()).unwrap();
    ///     let answer = service.call(request).await.unwrap();
    ///     assert_eq!(answer.status(), 200);
    ///     assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    /// });
    /// ```
    #[must_use]
    pub fn into_service(self, limits: Limits) -> RouterService {
        let limits = limits.clamped();
        RouterService { shared: Rc::new(Shared { service: Service::new(self, limits.clone()), limits }) }
    }
}

impl<B> TowerService<http::Request<B>> for RouterService
where
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<AnswerBody>, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            let (is_head, version) = (*request.method() == Method::HEAD, request.version());
            let answer = shared.answer(request).await;
            Ok(answer::converted(answer, is_head, version))
        })
    }
}

impl Shared {
    async fn answer<B>(&self, request: http::Request<B>) -> Response
    where
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let Some(head) = arrived::head(&parts, &body) else {
            // CONNECT, of which a server that is no proxy knows nothing.
            return Refusal::MethodUnknown.status().into_response();
        };
        let mut request = Request::take();
        match request.parse(&mut Parser::new(self.limits.clone()), &head) {
            Parse::Complete(()) => {}
            Parse::Error(why) => return why.status().into_response(),
            Parse::Partial => return StatusCode::BAD_REQUEST.into_response(),
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = parts.extensions.get::<annulet_tls::TlsInfo>() {
            request.set_peer(&Rc::new(crate::proxy::Peer { tls: Some(tls.clone()), ..Default::default() }));
        }
        let target = match self.service.router().find(&head, &mut request) {
            Ok(target) => target,
            Err(miss) => return trace::miss(self.service.router(), miss, &request),
        };
        if request.has_body() {
            let bytes = self.service.router().body_bytes(target).unwrap_or(self.limits.body_bytes);
            if body.size_hint().lower() > bytes {
                return Refusal::BodyTooLarge.status().into_response();
            }
            request.set_body(Body::of(Rc::new(arrived::Content::new(body, bytes))));
        }
        let mut request = Some(request);
        let called = poll_fn(|cx| {
            let request = request.take().expect("the closure is polled once: it is ready at once");
            Poll::Ready(self.service.call(target, request, cx))
        });
        let mut answer = match called.await {
            Ok(answer) => answer,
            Err(mut call) => poll_fn(|cx| poll_call(&mut call, cx)).await,
        };
        // Nobody could be told of it here.
        while let Some(mut call) = answer.take_interim() {
            answer = poll_fn(|cx| poll_call(&mut call, cx)).await;
        }
        answer
    }
}

impl fmt::Debug for RouterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouterService").field(self.shared.service.router()).finish()
    }
}
