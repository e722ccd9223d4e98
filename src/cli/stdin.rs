//! Standard input as a sign of life: whoever started us holds the other end of a pipe, and the
//! system closes it when that process ends, be it by SIGKILL.

use std::io::{ErrorKind, IsTerminal as _, Read as _};
use std::time::Duration;

use tokio::sync::oneshot;

use super::exit::Exit;
use crate::error::{Error, Result};

/// How long after the end of standard input the process ends whatever it is doing: within a second
/// of it nothing may be left.
const PATIENCE: Duration = Duration::from_millis(700);

/// Ready when standard input ends. What is read is not looked at. The process ends a moment later,
/// if it has not ended by itself.
///
/// # Errors
///
/// `Usage` when standard input is no pipe: a terminal and an empty device tell of no process's end.
/// `Storage` when no thread can be made.
pub(crate) fn end() -> Result<oneshot::Receiver<()>> {
    if !is_pipe() {
        return Err(Error::usage("standard input is no pipe, whose end could be waited for")
            .with_hint(
                "start it from a program that gives it a pipe as its standard input and keeps the \
             other end open; in a terminal leave --until-stdin-closes out, and end it by Ctrl-C",
            ));
    }
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let (mut stdin, mut nothing) = (std::io::stdin().lock(), [0; 1_024]);
            loop {
                match stdin.read(&mut nothing) {
                    Ok(read) if read > 0 => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // An error is an end, too: nothing will come any more.
                    Ok(_) | Err(_) => break,
                }
            }
            // Nobody waits for it any more, perhaps.
            let _ = ended.send(());
            // What is under way may wait for a lock, or for the disk. It is safe to end in the
            // middle of it, as by SIGKILL.
            std::thread::sleep(PATIENCE);
            std::process::exit(i32::from(Exit::Success.code()));
        })
        .map_err(|source| Error::storage("no thread could be made").with_source(source))?;
    Ok(end)
}

/// Whether standard input is a pipe or a socket: Node gives its children either.
#[cfg(unix)]
fn is_pipe() -> bool {
    use rustix::fs::{FileType, fstat};
    let stdin = std::io::stdin();
    let kind = fstat(&stdin).map(|found| FileType::from_raw_mode(found.st_mode));
    !stdin.is_terminal() && matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// Whether standard input is no terminal: the system tells no more.
#[cfg(not(unix))]
fn is_pipe() -> bool {
    !std::io::stdin().is_terminal()
}
