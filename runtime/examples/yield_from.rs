//! A generator that runs another one as a part of itself. Python's `yield from`.

use annulet::coroutine::Generator;

fn func1() -> Generator<'static, (), u32, ()> {
    Generator::new(async |co, ()| {
        co.yield_(1).await;
        co.yield_from(func2(), ()).await;
        co.yield_(2).await;
    })
}

fn func2() -> Generator<'static, (), u32, ()> {
    Generator::new(async |co, ()| {
        co.yield_(3).await;
        co.yield_(4).await;
    })
}

fn main() {
    for item in func1() {
        println!("{item}");
    }
}
