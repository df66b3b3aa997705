//! Which core serves a new connection.

use std::str::FromStr;

/// Which core serves a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptPolicy {
    /// The one that the kernel chooses by a hash of the addresses (SO_REUSEPORT, socket(7)): nothing is shared. Few
    /// connections may be spread unevenly.
    #[default]
    Reuseport,
    /// The one on which the connection's first packet was received (SO_ATTACH_REUSEPORT_CBPF): its packets and its work stay in
    /// one cache. Even only if the network card spreads its queues over the same cores.
    Steer,
    /// The one with the fewest connections: who accepts one and has clearly more than another hands it over. For few, long
    /// connections.
    Balance,
}

impl FromStr for AcceptPolicy {
    type Err = String;

    /// Reads `reuseport`, `steer` or `balance`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reuseport" => Ok(AcceptPolicy::Reuseport),
            "steer" => Ok(AcceptPolicy::Steer),
            "balance" => Ok(AcceptPolicy::Balance),
            _ => Err(format!("{text:?} is no policy; write reuseport, steer or balance")),
        }
    }
}
