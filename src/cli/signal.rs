//! SIGINT and SIGTERM.

use tokio::runtime::{Builder, Runtime};

use super::exit::Exit;
use super::output::Output;
use crate::error::{Error, Result};

/// A runtime for a command that waits for one thing.
///
/// # Errors
///
/// `Storage` when the system refuses it.
pub(crate) fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::storage("no thread could be started").with_source(source))
}

/// Ready when a signal asks the command to stop. It listens from the call on, not from the first
/// poll.
///
/// It gives `Storage` when the system refuses to deliver signals.
///
/// # Panics
///
/// Outside a runtime.
pub(crate) fn stop() -> impl Future<Output = Result<()>> {
    let refused = |source: std::io::Error| {
        Error::storage("the system does not deliver signals").with_source(source)
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = kinds.map(signal);
        async move {
            let [interrupt, terminate, hangup] = signals.map(|signal| signal.map_err(refused));
            let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            Ok(())
        }
    }
    #[cfg(not(unix))]
    async move {
        tokio::signal::ctrl_c().await.map_err(refused)
    }
}

/// From now on Ctrl-C and SIGTERM end the process at once. `advice` is printed first.
///
/// # Errors
///
/// `Storage` when no thread can be made.
pub(crate) fn end_at_once(output: &Output, exit: Exit, advice: String) -> Result<()> {
    let output = output.clone();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::storage("no thread could be started").with_source(source))?;
    // Listen before this function returns: a signal may come at once.
    let stop = {
        let _within = runtime.enter();
        stop()
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if runtime.block_on(stop).is_ok() {
                if !advice.is_empty() {
                    output.clear();
                    output.interrupted(&advice, exit);
                }
                std::process::exit(i32::from(exit.code()));
            }
        })
        .map_err(|source| Error::storage("no thread could be started").with_source(source))?;
    Ok(())
}
