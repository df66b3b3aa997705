//! Tasks for hyper.
use hyper::rt::Executor;

/// Spawns hyper's tasks on the loop that it is used on: those of HTTP/2, one for each request. They need not be `Send`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // Detached: hyper ends it by other means.
        drop(annulet::spawn(future));
    }
}
