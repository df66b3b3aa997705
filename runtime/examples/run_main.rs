//! A coroutine is a value: calling an async function runs none of it. Python's `asyncio.run(main())` and
//! `loop.run_until_complete(main())`.

async fn hello() -> u32 {
    println!("hello world");
    42
}

fn main() {
    // In Rust the call makes a future, as in Python it makes a coroutine object. It runs when it is awaited or spawned.
    let future = hello();
    println!("a future was made, nothing has run");
    let value = annulet::run(future);
    println!("the value is {value}");
}
