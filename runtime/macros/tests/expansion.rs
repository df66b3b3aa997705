//! What the macros expand to compiles and runs: against a runtime of three lines, which this crate poses as.

extern crate self as annulet;

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Stands in for `annulet::run`.
pub fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

#[doc(hidden)]
pub mod __private {
    thread_local! {
        pub(crate) static IS_PAUSED: super::Cell<Option<bool>> = const { super::Cell::new(None) };
    }

    pub fn run_test<F: Future>(future: F, start_paused: bool) -> F::Output {
        IS_PAUSED.set(Some(start_paused));
        super::run(future)
    }

    use std::future::Future;
}

fn is_paused() -> Option<bool> {
    __private::IS_PAUSED.get()
}

/// The error type of `?` is known without help.
#[annulet_macros::main]
async fn returns_a_result() -> Result<u32, Box<dyn std::error::Error>> {
    let number: u32 = "42".parse()?;
    Ok(std::future::ready(number).await)
}

#[annulet_macros::main]
pub(crate) async fn returns_nothing() {
    std::future::ready(()).await;
}

#[test]
fn main_runs() {
    assert_eq!(returns_a_result().unwrap(), 42);
    returns_nothing();
}

#[annulet_macros::test]
async fn a_test() {
    assert_eq!(is_paused(), Some(false));
}

#[annulet_macros::test(start_paused = true)]
async fn a_paused_test() -> Result<(), std::num::ParseIntError> {
    let _: u32 = "7".parse()?;
    assert_eq!(is_paused(), Some(true));
    Ok(())
}

#[annulet_macros::test]
#[should_panic(expected = "as it should")]
async fn a_panicking_test() {
    panic!("as it should");
}

mod a_test_named_test {
    //! A `test` of one's own in scope does not get in the way.
    #[allow(unused_imports)]
    use annulet_macros::test;

    #[test]
    async fn short_form() {
        assert_eq!(super::is_paused(), Some(false));
    }
}

macro_rules! tests {
    ($($vis:vis $name:ident $body:block)*) => { $(
        #[annulet_macros::test]
        $vis async fn $name() $body
    )* };
}

tests! {
    from_macro_rules { assert_eq!(std::future::ready(1).await, 1); }
    pub(crate) from_macro_rules_with_visibility { std::future::ready(()).await; }
}
