//! Sockets, streams and what is read from them.
