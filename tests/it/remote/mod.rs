//! The client of a remote against servers that do as a test tells them.

mod failure;
mod probe;
mod request;
pub(crate) mod server;
mod tls;

use driftless::remote::{Batch, Libsql, Options, Token};
use server::Server;

/// A client of `server` with a token that nothing may show.
fn client(server: &Server) -> Libsql {
    client_with(server, Options::default())
}

fn client_with(server: &Server, options: Options) -> Libsql {
    Libsql::connect(&server.url(), Some(Token::new("s3cret").unwrap()), options).unwrap()
}

fn reads(statements: &[&str]) -> Batch {
    Batch { statements: statements.iter().map(|sql| (*sql).into()).collect(), writes: false }
}

fn writes(statements: &[&str]) -> Batch {
    Batch { writes: true, ..reads(statements) }
}
