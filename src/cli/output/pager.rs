//! A long listing on a terminal goes through the program that `PAGER` names, or through `less`.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

/// A pager that runs.
pub(super) struct Pager {
    child: Child,
    is_coloured: bool,
}

impl Pager {
    /// Starts one, if stdout is a terminal and there is a pager. An empty `PAGER` means none.
    pub(super) fn start() -> Option<Pager> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let named = std::env::var("PAGER").ok();
        let mut command = match named.as_deref().map(str::trim) {
            Some("" | "cat") => return None,
            // It may have arguments, as a shell reads them.
            Some(named) if cfg!(unix) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", named]);
                shell
            }
            Some(named) => Command::new(named),
            None => Command::new("less"),
        };
        if std::env::var_os("LESS").is_none() {
            // Ends by itself if all fits on the screen, shows colours, and leaves the text there.
            command.env("LESS", "FRX");
        }
        let child = command.stdin(Stdio::piped()).spawn().ok()?;
        let is_coloured =
            anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        Some(Pager { child, is_coloured })
    }

    /// Gives it a line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        let stdin = self.child.stdin.as_mut().expect("it is closed at the end alone");
        match self.is_coloured {
            true => writeln!(stdin, "{text}"),
            false => writeln!(stdin, "{}", anstream::adapter::strip_str(text)),
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // The person closes it.
        let _ = self.child.wait();
    }
}
