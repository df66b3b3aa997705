//! Files and the pages that are kept in them.
