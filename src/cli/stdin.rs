//! Standard input shows whether the parent process is alive: it has the other end of a pipe, and
//! the system closes that when the process ends, even by SIGKILL.

use std::io::{ErrorKind, IsTerminal as _, Read as _};
use std::time::Duration;

use tokio::sync::oneshot;

use super::exit::Exit;
use crate::error::{Error, Result};

/// How long after the end of standard input the process exits, whatever it is doing. It must be
/// gone within a second.
const PATIENCE: Duration = Duration::from_millis(700);

/// Ready when standard input ends. The bytes that are read are ignored. The process exits a moment
/// later, if it has not ended by itself.
///
/// # Errors
///
/// `Usage` when standard input is not a pipe: a terminal or an empty device has no process behind
/// it. `Storage` when no thread can be made.
pub(crate) fn end() -> Result<oneshot::Receiver<()>> {
    if !is_pipe() {
        return Err(Error::usage("standard input is not a pipe, so its end cannot be waited for")
            .with_hint(
                "start it from a program that gives it a pipe as its standard input and keeps the \
                 other end open; in a terminal, leave out --until-stdin-closes, and end it with \
                 Ctrl-C",
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
                    // After an error nothing more arrives: treat it as the end.
                    Ok(_) | Err(_) => break,
                }
            }
            // The receiver may have gone.
            let _ = ended.send(());
            wait_and_exit();
        })
        .map_err(cannot_start)?;
    Ok(end)
}

/// Ends the process a moment later, if it has not ended by itself.
///
/// # Errors
///
/// `Storage` when no thread can be made.
pub(crate) fn exit_soon() -> Result<()> {
    let thread = std::thread::Builder::new().name("end".to_owned()).spawn(|| wait_and_exit());
    thread.map(drop).map_err(cannot_start)
}

/// The shutdown may wait for a lock or for the disk. Exiting in the middle of it is as safe as
/// SIGKILL.
fn wait_and_exit() -> ! {
    std::thread::sleep(PATIENCE);
    std::process::exit(i32::from(Exit::Success.code()));
}

fn cannot_start(source: std::io::Error) -> Error {
    Error::storage("no thread could be started").with_source(source)
}

/// Whether the other end of standard input is closed, although not all of it was read.
#[cfg(unix)]
pub(crate) fn is_over() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = std::io::stdin();
    #[cfg(target_os = "linux")]
    let ends = PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let ends = PollFlags::HUP | PollFlags::ERR;
    let mut polled = [PollFd::new(&stdin, ends)];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().intersects(ends)
}

/// The system does not tell. If the parent is gone, the next write to it fails.
#[cfg(not(unix))]
pub(crate) fn is_over() -> bool {
    false
}

/// Whether standard input is a pipe or a socket. Node gives its children either of them.
#[cfg(unix)]
fn is_pipe() -> bool {
    use rustix::fs::{FileType, fstat};
    let stdin = std::io::stdin();
    let kind = fstat(&stdin).map(|found| FileType::from_raw_mode(found.st_mode));
    !stdin.is_terminal() && matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// Whether standard input is not a terminal: the system offers no better test.
#[cfg(not(unix))]
fn is_pipe() -> bool {
    !std::io::stdin().is_terminal()
}
