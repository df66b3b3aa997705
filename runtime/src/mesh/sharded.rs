//! A value on every core, each on its own, reached by calls.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lobby::Lobby;
use super::{Call, cores, port, submit_to};
use crate::task::JoinError;

/// The number of the next sharded value of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A value of type `T` on every core of a mesh. `T` need not be `Send`: each is made, used and dropped on its own core.
///
/// The handle is `Send`, and its clones name the same values. When the last handle is gone, every core drops its own value in one
/// of its next turns.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use annulet::mesh::Sharded;
///
/// let loops = annulet::Builder::new()
/// #   .cores([annulet::placement::available_cores().unwrap()[0]])
///     .start(|core| async move {
///         let hits = Sharded::new(|_core| Cell::new(0_u64)).await.unwrap();
///         hits.local(|count| count.set(count.get() + 1));
///         hits.with(0, |count| count.set(count.get() + 1)).await.unwrap();
///         let sum = hits.map_reduce(Cell::get, 0, |sum, count| sum + count).await.unwrap();
///         assert_eq!(sum, 2);
///     })
///     .unwrap();
/// loops.join().unwrap();
/// ```
pub struct Sharded<T: 'static> {
    inner: Arc<Inner>,
    _value: PhantomData<fn() -> T>,
}

struct Inner {
    id: u64,
    lobby: Arc<Lobby>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lobby.drop_shards(self.id);
    }
}

impl<T: 'static> Sharded<T> {
    /// Makes the values: `make` is called on every core, with its place.
    ///
    /// # Errors
    ///
    /// When it panicked on a core, or a core has ended. No value is kept then.
    ///
    /// # Panics
    ///
    /// On a loop that is not part of a mesh.
    pub async fn new<F>(make: F) -> Result<Self, JoinError>
    where
        F: FnOnce(usize) -> T + Clone + Send + 'static,
    {
        // Relaxed: a number that is not used twice, nothing more.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        // From here on what was made is dropped with it.
        let inner = Arc::new(Inner { id, lobby: Arc::clone(port().lobby()) });
        let calls: Vec<_> = (0..cores())
            .map(|core| {
                let make = make.clone();
                // Travels along: should this be dropped, the values go when the last call is over, not before it puts its own in.
                let kept = Arc::clone(&inner);
                submit_to(core, move || async move {
                    let value: Rc<dyn Any> = Rc::new(make(core));
                    let old = port().shards.borrow_mut().insert(id, value);
                    debug_assert!(old.is_none(), "a number is used once");
                    drop(kept);
                })
            })
            .collect();
        for call in calls {
            call.await?;
        }
        Ok(Sharded { inner, _value: PhantomData })
    }

    /// This core's value.
    fn here(id: u64) -> Rc<T> {
        let shards = port();
        let value = shards.shards.borrow().get(&id).cloned();
        value.and_then(|value| value.downcast().ok()).expect(
            "a sharded value is used on a loop of another mesh than its own, or on one that has been started again since",
        )
    }

    /// Calls `f` with this core's value.
    ///
    /// # Panics
    ///
    /// On a loop of another mesh.
    #[track_caller]
    pub fn local<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&Self::here(self.inner.id))
    }

    /// Calls `f` with the value of a core, there.
    ///
    /// # Errors
    ///
    /// As [`submit_to`].
    ///
    /// # Cancel safety
    ///
    /// As [`submit_to`].
    ///
    /// # Panics
    ///
    /// As [`submit_to`].
    #[track_caller]
    pub fn with<R, F>(&self, core: usize, f: F) -> Call<R>
    where
        F: FnOnce(&T) -> R + Send + 'static,
        R: Send + 'static,
    {
        self.submit_to(core, async move |value| f(&value))
    }

    /// Runs the future that `f` makes with the value of a core, there.
    ///
    /// # Errors
    ///
    /// As [`submit_to`].
    ///
    /// # Cancel safety
    ///
    /// As [`submit_to`].
    ///
    /// # Panics
    ///
    /// As [`submit_to`].
    #[track_caller]
    pub fn submit_to<F, Fut>(&self, core: usize, f: F) -> Call<Fut::Output>
    where
        F: FnOnce(Rc<T>) -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        // The handle travels along, so that the value stays until the call is over.
        let kept = self.clone();
        submit_to(core, move || {
            let future = f(Self::here(kept.inner.id));
            async move {
                let output = future.await;
                drop(kept);
                output
            }
        })
    }

    /// Calls `map` with the value of every core, there, and folds the results here, in the order of the cores.
    ///
    /// # Errors
    ///
    /// When a call panicked, or a core has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`submit_to`].
    ///
    /// # Panics
    ///
    /// As [`submit_to`].
    pub async fn map_reduce<R, A, M>(
        &self,
        map: M,
        initial: A,
        mut reduce: impl FnMut(A, R) -> A,
    ) -> Result<A, JoinError>
    where
        M: FnOnce(&T) -> R + Clone + Send + 'static,
        R: Send + 'static,
    {
        let calls: Vec<_> = (0..cores()).map(|core| self.with(core, map.clone())).collect();
        let mut folded = initial;
        for call in calls {
            folded = reduce(folded, call.await?);
        }
        Ok(folded)
    }
}

impl<T: 'static> Clone for Sharded<T> {
    fn clone(&self) -> Self {
        Sharded { inner: Arc::clone(&self.inner), _value: PhantomData }
    }
}

impl<T: 'static> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").field("id", &self.inner.id).finish_non_exhaustive()
    }
}
