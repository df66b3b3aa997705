//! Threads, processes, signals, and coroutines without the loop.
