//! Every order of a few steps: a test makes its choices through [`Choose`] and is run again until all were made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

/// The choices of one run: those of the script, then the first of what is possible.
#[derive(Debug)]
pub(super) struct Choose {
    /// What was chosen, and of how many.
    made: Vec<(usize, usize)>,
    next: usize,
    steps_left: usize,
}

impl Choose {
    /// Whether there is another step; ask once a step.
    pub(super) fn goes_on(&mut self) -> bool {
        self.steps_left = self.steps_left.saturating_sub(1);
        self.steps_left > 0
    }

    /// One of `count` things.
    pub(super) fn one_of(&mut self, count: usize) -> usize {
        assert!(count > 0, "there must be something to choose");
        if self.next == self.made.len() {
            self.made.push((0, count));
        }
        let (choice, of) = self.made[self.next];
        assert_eq!(of, count, "the test must not depend on anything else than its choices");
        self.next += 1;
        choice
    }
}

/// Runs `test` with every sequence of choices, each of at most `steps` steps. Gives the number of runs.
pub(super) fn explore(steps: usize, mut test: impl FnMut(&mut Choose)) -> usize {
    let mut made = Vec::new();
    let mut runs = 0;
    loop {
        let mut choose = Choose { made, next: 0, steps_left: steps + 1 };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut choose)));
        if let Err(panic) = outcome {
            eprintln!(
                "in run {runs}, choices {:?}",
                choose.made.iter().map(|(choice, _)| choice).collect::<Vec<_>>()
            );
            std::panic::resume_unwind(panic);
        }
        runs += 1;
        made = choose.made;
        // The next script: the last choice that has another possibility takes it.
        while let Some((choice, of)) = made.pop() {
            if choice + 1 < of {
                made.push((choice + 1, of));
                break;
            }
        }
        if made.is_empty() {
            return runs;
        }
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

impl Count {
    pub(super) fn new() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    /// Wake-ups since the last call.
    pub(super) fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
