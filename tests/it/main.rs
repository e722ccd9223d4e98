//! The integration tests: one binary. A folder has the name of the folder of `src/` that it tests;
//! what crosses several of them has a folder of its own. docs/testing.md says what each proves.

/// The log, read: histories, differences, former states, and changes taken back.
mod audit;
/// The packages for other languages.
mod bindings;
/// What an application writes, by whatever client, is in the outbox exactly.
mod capture;
/// Which tables can be replicated, and under which names.
mod catalog;
/// The built command: output, exit codes, signals, tokens.
mod cli;
/// One suite for every implementation of `Remote`.
mod conformance;
/// The spelling of values, in SQL and in Rust.
mod event;
/// Known failures of replicators, each by its number.
mod failures;
/// The reference application's data, and the demo's story.
mod gym;
/// Remotes, files and clients that mean harm, and random bytes.
mod hostile;
/// The development server, as its clients see it.
mod hub;
/// The built program in real processes: kills, faulty networks, full disks.
mod processes;
/// What must travel together, and what is too large for a request or an answer.
mod protocol;
/// The client of a remote, against servers that do as a test tells them.
mod remote;
/// The replicator inside an application, with real threads and clocks.
mod replicator;
/// Deterministic simulation of whole worlds.
mod sim;
/// The local database: outbox, pages, conflicts, quarantine, older files.
mod store;
/// What the tests stand on: desks, remotes in memory, golden scripts, tools.
mod support;
/// Desks, a web application and the remote: the machine, and the first sync.
mod sync;
/// The rules of the house that a program can check, in sources and documents.
mod tidy;
/// The remote's SQL: how the inbox judges, what it writes, what it captures.
mod verdict;
