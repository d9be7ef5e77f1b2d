//! The SQLite store against SQLite itself, on files in temporary folders.
