//! tower's services as hyper's.
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

/// A [`tower_service::Service`] where hyper wants one of its own: it is cloned for each request, and called when it is ready.
#[derive(Clone, Copy, Debug)]
pub struct TowerService<S>(S);

impl<S> TowerService<S> {
    /// Of this service.
    pub fn new(service: S) -> TowerService<S> {
        TowerService(service)
    }
}

impl<S, R> hyper::service::Service<R> for TowerService<S>
where
    S: Service<R> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, R>;

    fn call(&self, request: R) -> Oneshot<S, R> {
        Oneshot { state: State::Waiting { call: Some((self.0.clone(), request)) } }
    }
}

pin_project! {
    /// One call: first the service has to be ready, then it answers.
    pub struct Oneshot<S: Service<R>, R> {
        #[pin]
        state: State<S, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<R>, R> {
        Waiting { call: Option<(S, R)> },
        Called { #[pin] future: S::Future },
    }
}

impl<S: Service<R>, R> fmt::Debug for Oneshot<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oneshot").finish_non_exhaustive()
    }
}

impl<S: Service<R>, R> Future for Oneshot<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::Called { future } => return future.poll(cx),
                StateProjection::Waiting { call } => {
                    let (service, _) = call.as_mut().expect("a call waits until it is made");
                    ready!(service.poll_ready(cx))?;
                    let (mut service, request) = call.take().expect("it was there just now");
                    state.set(State::Called { future: service.call(request) });
                }
            }
        }
    }
}
