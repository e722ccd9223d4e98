//! A wall clock that a test can put ahead, for single processes.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::tools::{Tool, require};

/// See the module.
pub(super) struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Clock {
    /// A clock that goes right, with its files in `folder`; `None` where there is no C compiler, or no
    /// way to preload a library.
    pub(super) fn new(folder: &Path) -> Option<Clock> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let compiler = require(Tool::Cc)?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/processes/clock.c");
        let (library, path) = (folder.join("clock.so"), folder.join("clock"));
        let compiled = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(compiled.success());
        std::fs::write(&path, [0; 8]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        Some(Clock { library, path, file })
    }

    /// A command that goes by this clock.
    pub(super) fn rules(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.library).env("DRIFTLESS_TEST_CLOCK", &self.path);
        command
    }

    /// Puts it ahead of the true time, by so many seconds.
    pub(super) fn ahead(&self, seconds: i64) {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&seconds.to_ne_bytes()).unwrap();
    }
}
