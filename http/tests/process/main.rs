//! annulet-serve as a process: what it holds and how it ends.

#[cfg(feature = "tls")]
#[path = "../common/authority.rs"]
mod authority;
mod beside;
mod capacity;
mod ends;
mod operations;
mod restricted;
mod served;
mod spread;
mod supervised;
mod surroundings;
#[cfg(feature = "tls")]
mod tls;
mod workers;
