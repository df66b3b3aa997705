//! Two plain functions that switch to each other half-way, each on a stack of its own. Python's greenlet.
//!
//! The runtime has no such coroutines and needs none; the crate corosensei has. What a stack buys: `switch` works from
//! within any call, not only in async code. What it costs: the memory of a stack each.

use corosensei::{Coroutine, CoroutineResult, Yielder};

/// Which greenlet to go on with; what a greenlet yields.
#[derive(Clone, Copy)]
enum To {
    Func1,
    Func2,
}

/// Goes on with another greenlet, and returns when somebody switches back.
fn switch(own: &Yielder<(), To>, to: To) {
    own.suspend(to);
}

fn func1(own: &Yielder<(), To>) {
    println!("1");
    switch(own, To::Func2);
    println!("2");
    switch(own, To::Func2);
    unreachable!("nobody switches back a second time");
}

fn func2(own: &Yielder<(), To>) {
    println!("3");
    switch(own, To::Func1);
    println!("4");
}

fn main() {
    let mut greenlets = [Coroutine::new(|own, ()| func1(own)), Coroutine::new(|own, ()| func2(own))];
    let mut to = To::Func1;
    // As with greenlet, the program goes on here when one of them returns. Dropping the other unwinds its stack.
    while let CoroutineResult::Yield(next) = greenlets[to as usize].resume(()) {
        to = next;
    }
}
