//! Two coroutines are stepped by hand, one after the other, without a loop. Python's `coroutine.send(None)`.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use annulet::yield_now;

async fn switch() {
    println!("switch");
    yield_now().await;
    println!("return 1");
    yield_now().await;
    println!("return 2");
}

async fn coro1() {
    println!("C1: Start");
    switch().await;
    println!("C1: Stop");
}

async fn coro2() {
    println!("C2: Start");
    println!("C2: a");
    println!("C2: b");
    switch().await;
    println!("C2: c");
    println!("C2: Stop");
}

fn run<'a>(mut coroutines: Vec<Pin<&'a mut (dyn Future<Output = ()> + 'a)>>) {
    // Nobody is to be woken: each is stepped when its turn comes.
    let mut context = Context::from_waker(Waker::noop());
    while !coroutines.is_empty() {
        println!("start loop");
        coroutines.retain_mut(|coroutine| match coroutine.as_mut().poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(()) => false,
        });
    }
}

fn main() {
    let (first, second) = (pin!(coro1()), pin!(coro2()));
    run(vec![first, second]);
    println!("both have ended");
}
