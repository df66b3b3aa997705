//! How connections are spread over the cores, for users.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Group;

/// How connections are spread over the cores; from [`Loops::connections`](crate::Loops::connections). It can be asked on any
/// thread.
///
/// # Examples
///
/// ```
/// let loops = annulet::Builder::new()
///     .listen("127.0.0.1:0".parse().unwrap())
///     .start(|core| async move { core.stopped().await })
///     .unwrap();
/// let connections = loops.connections();
/// assert_eq!(connections.live().iter().sum::<usize>(), 0);
/// println!("{connections}");
/// loops.stop();
/// loops.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Connections(Arc<Group>);

impl Connections {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Connections(group)
    }

    /// Connections that each core serves now, in the order of the cores.
    pub fn live(&self) -> Vec<usize> {
        (0..self.0.seats.len()).map(|core| self.0.live(core)).collect()
    }

    /// Connections that each core was given, ever.
    pub fn served(&self) -> Vec<u64> {
        self.0.seats.iter().map(|seat| seat.served.load(Ordering::Relaxed)).collect()
    }

    /// Connections that each core accepted and gave to another, ever.
    pub fn handed_over(&self) -> Vec<u64> {
        self.0.seats.iter().map(|seat| seat.handed_over.load(Ordering::Relaxed)).collect()
    }

    /// The skew gauge: by how much the core that is farthest from an even share of the live connections is off, as a part of that
    /// share. Zero is even; one is a core with twice its share, or with none.
    pub fn skew(&self) -> f64 {
        skew(&self.live())
    }
}

/// See [`Connections::skew`].
pub(crate) fn skew(live: &[usize]) -> f64 {
    let even = live.iter().sum::<usize>() as f64 / live.len().max(1) as f64;
    if even == 0.0 {
        return 0.0;
    }
    live.iter().map(|&count| (count as f64 - even).abs() / even).fold(0.0, f64::max)
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.live();
        let counts: Vec<String> = live.iter().map(ToString::to_string).collect();
        write!(f, "connections per core: {}; skew {:.1} %", counts.join(" "), skew(&live) * 100.0)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
