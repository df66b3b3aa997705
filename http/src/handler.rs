//! Handlers: async functions from a request to something that becomes an answer.
//!
//! A handler's future lives in a slot that belongs to the handler and is used again for the next request, so a handler that does
//! not have to wait costs no allocation and no size lookup. A future that has to wait takes its slot with it.
use std::any::TypeId;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, StatusCode};
use pin_project_lite::pin_project;

use crate::files::ServeDir;
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::router::FOR_ANY;

/// An async function that answers requests. It runs on the core that received the request and may hold what is not `Send`.
///
/// Implemented for every `async fn(Request) -> impl IntoResponse` and every closure of that shape.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use annulet_http::{Request, Router};
///
/// let visits = Rc::new(Cell::new(0));
/// let router = Router::new().get("/visits", move |_: Request| {
///     let visits = visits.clone();
///     async move {
///         visits.set(visits.get() + 1);
///         visits.get().to_string()
///     }
/// });
/// ```
pub trait Handler: 'static {
    /// The future of one call.
    type Future: Future<Output = Self::Answer> + 'static;
    /// What it comes to.
    type Answer: IntoResponse;

    /// Starts to answer.
    fn call(&self, request: Request) -> Self::Future;

    /// The methods that it serves where it is there [for any](crate::Router::any), as far as it is known: they are what the router names
    /// in the field Allow (RFC 9110 section 10.2.1). TRACE is none of them.
    #[must_use]
    fn methods(&self) -> &'static [Method] {
        &FOR_ANY
    }
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + 'static,
    Fut: Future<Output: IntoResponse> + 'static,
{
    type Future = Fut;
    type Answer = Fut::Output;

    #[inline]
    fn call(&self, request: Request) -> Fut {
        self(request)
    }
}

/// A call that has to wait.
pub(crate) type PendingCall = Pin<Box<dyn Future<Output = Response>>>;

/// A handler whose types are forgotten.
pub(crate) trait AnyHandler {
    /// Calls the handler and polls it once: it puts its answer into `answer`, which is empty, or has to wait. Passes on its panic;
    /// the next call is none the worse for that.
    fn start(
        &self,
        request: Request,
        cx: &mut Context<'_>,
        answer: &mut Option<Response>,
    ) -> Option<PendingCall>;
}

pub(crate) fn erase<H: Handler>(handler: H) -> Box<dyn AnyHandler> {
    Box::new(Slotted { handler, spare: Cell::new(None) })
}

/// Polls a call. A panic becomes the answer 500, and the call must not be polled again.
pub(crate) fn poll_call(call: &mut PendingCall, cx: &mut Context<'_>) -> Poll<Response> {
    // What the future was doing is dropped with it: nothing broken can be seen afterwards.
    catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|_| Poll::Ready(panic_answer()))
}

/// The answer in place of one that a handler's panic prevented.
#[cold]
pub(crate) fn panic_answer() -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

type Boxed<F> = Pin<Box<Slot<F>>>;

/// A handler and the slot for its next call.
struct Slotted<H: Handler> {
    handler: H,
    /// Empty while a call is polled, and until the first.
    spare: Cell<Option<Boxed<H::Future>>>,
}

impl<H: Handler> AnyHandler for Slotted<H> {
    #[inline]
    fn start(
        &self,
        mut request: Request,
        cx: &mut Context<'_>,
        answer: &mut Option<Response>,
    ) -> Option<PendingCall> {
        if TypeId::of::<H>() != TypeId::of::<ServeDir>() {
            request.unset_first();
        }
        let mut slot = self.spare.take().unwrap_or_else(|| Box::pin(Slot { future: None }));
        slot.as_mut().project().future.set(Some(self.handler.call(request)));
        match slot.as_mut().poll(cx) {
            Poll::Ready(ready) => {
                // Where it stays: a return value would be moved once more. To know that it is empty saves the drop of what was there.
                if answer.is_none() {
                    *answer = Some(ready);
                }
                slot.as_mut().project().future.set(None);
                self.spare.set(Some(slot));
                None
            }
            Poll::Pending => Some(slot),
        }
    }
}

pin_project! {
    /// Room for one call's future.
    struct Slot<F> {
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future<Output: IntoResponse>> Future for Slot<F> {
    type Output = Response;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let future = self.project().future.as_pin_mut().expect("a slot is polled only with a call in it");
        future.poll(cx).map(IntoResponse::into_response)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{poll_fn, ready};
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    fn start(handler: &dyn AnyHandler) -> Result<Response, PendingCall> {
        let mut answer = None;
        match handler.start(Request::take(), &mut Context::from_waker(Waker::noop()), &mut answer) {
            Some(call) => Err(call),
            None => Ok(answer.unwrap()),
        }
    }

    fn check_ready(handler: &dyn AnyHandler, status: u16, body: &str) {
        let Ok(answer) = start(handler) else { panic!("not ready") };
        assert_eq!((answer.status().as_u16(), std::str::from_utf8(answer.body())), (status, Ok(body)));
    }

    #[test]
    fn the_slot_is_used_again() {
        let addresses = Rc::new(Cell::new((0, 0)));
        let seen = addresses.clone();
        let handler = erase(move |_| {
            let seen = seen.clone();
            let here = 0u8;
            async move {
                // A reference across an await pins the variable into the future.
                let address = &raw const here as usize;
                ready(()).await;
                seen.set((address, seen.get().0));
            }
        });
        check_ready(&*handler, 200, "");
        check_ready(&*handler, 200, "");
        let (last, before) = addresses.get();
        assert_eq!(last, before);
    }

    #[test]
    fn a_waiting_call_keeps_its_slot() {
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        let handler = erase(move |_| {
            let polls = counted.clone();
            poll_fn(move |_| {
                polls.set(polls.get() + 1);
                if polls.get() == 1 { Poll::Pending } else { Poll::Ready("done") }
            })
        });
        let Err(mut call) = start(&*handler) else { panic!("ready") };
        check_ready(&*handler, 200, "done");
        let answer = poll_call(&mut call, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(answer, Poll::Ready(answer) if answer.body() == b"done"));
    }

    #[test]
    fn a_panic_leaves_the_handler_whole() {
        let panics = Rc::new(Cell::new(true));
        let seen = panics.clone();
        let handler = erase(move |_| {
            let panics = seen.replace(false);
            async move { assert!(!panics, "on purpose") }
        });
        assert!(catch_unwind(AssertUnwindSafe(|| drop(start(&*handler)))).is_err());
        check_ready(&*handler, 200, "");
        let handler = erase(move |_| {
            assert!(panics.replace(true), "on purpose, before there is a future");
            ready(())
        });
        assert!(catch_unwind(AssertUnwindSafe(|| drop(start(&*handler)))).is_err());
        check_ready(&*handler, 200, "");
    }
}
