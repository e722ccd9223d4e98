//! `driftless hub`: the development server.

use std::net::SocketAddr;

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::Result;
use crate::hub::{Config, Hub};
use crate::remote::Token;

/// The arguments of `hub`.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// Serves a file until SIGINT or SIGTERM.
///
/// # Errors
///
/// As [`Hub::bind`] and [`Hub::serve`].
pub(crate) fn hub(session: &Session, args: &HubArgs) -> Result<Exit> {
    let db = session.db()?;
    let mut config = Config::new(db, args.listen);
    // The token comes only from a file: one in the environment is for another server.
    if let Some(file) = session.token_file() {
        config.token = Some(Token::from_file(file)?.into_secret());
    }
    let guarded = config.token.is_some();
    let totals = signal::runtime()?.block_on(async {
        let stop = signal::stop();
        let hub = Hub::bind(config).await?;
        session.output().line(format_args!("listening on {}", hub.url()))?;
        let access =
            if guarded { "everybody who has the token" } else { "everybody who can reach it" };
        session.output().note(format_args!(
            "For development and tests, not for production: it serves {} to {access}.",
            db.display()
        ));
        let totals = hub.totals();
        let (failed, failure) = tokio::sync::oneshot::channel();
        hub.serve(async {
            // Without signals, only the end of the process stops the hub.
            let _ = failed.send(stop.await);
        })
        .await?;
        failure.await.unwrap_or(Ok(()))?;
        Ok::<_, crate::error::Error>(totals)
    })?;
    let (statements, rows) = (totals.statements(), totals.rows());
    session.output().note(format_args!(
        "stopped after {statements} statements, which read at least {} rows and wrote about {}",
        rows.read, rows.written
    ));
    Ok(Exit::Success)
}
