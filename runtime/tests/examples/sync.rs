//! Locks and channels.
