//! The source of a remote's token while a replicator runs.
//!
//! Tokens are rotated while programs run. So [`Credentials`] is a token, a file that is read again,
//! or a function of the application that is called again. A `Keyring` holds the token in use. It
//! replaces the token when the file has changed, and after the remote has refused the token.
//!
//! A file that cannot be read or holds no token never replaces a good token: the token in use
//! stays, and the keyring reports the problem.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::token::{Access, Token};
use crate::error::{Error, Result};

/// How many looks in a row must find a bad file before it is reported. A file that is written in
/// place is empty for a moment.
const BAD_LOOKS: u32 = 2;

/// A function that gives a token.
type Source = dyn Fn() -> Result<Option<Token>> + Send + Sync;

/// The source of a remote's token.
#[derive(Clone)]
pub struct Credentials(Origin);

#[derive(Clone)]
enum Origin {
    Fixed(Option<Token>),
    File(PathBuf),
    Source(Arc<Source>),
}

impl Credentials {
    /// A fixed token; `None` for a remote that needs none.
    pub fn fixed(token: Option<Token>) -> Credentials {
        Credentials(Origin::Fixed(token))
    }

    /// The token in a file: its only line. Only the file's owner may read it (see
    /// [`Token::from_file`]).
    ///
    /// The file is read again when it changes (also by a rename, or by a symbolic link that leads
    /// elsewhere), and after the remote has refused the token. If it cannot be read then, or holds
    /// no token, the former token stays in use, and [`Status::trouble`](crate::Status::trouble)
    /// reports the problem.
    pub fn file(path: impl AsRef<Path>) -> Credentials {
        Credentials(Origin::File(path.as_ref().to_owned()))
    }

    /// The token that `source` returns. It is called before the first request, and again after the
    /// remote has refused the token.
    ///
    /// It runs on a thread that may block, and may call a server of yours. Its error becomes the
    /// request's error: [`Unavailable`](crate::Kind::Unavailable) is tried again after a growing
    /// wait, and [`Refused`](crate::Kind::Refused) after a minute.
    pub fn source(
        source: impl Fn() -> Result<Option<Token>> + Send + Sync + 'static,
    ) -> Credentials {
        Credentials(Origin::Source(Arc::new(source)))
    }
}

impl From<Option<Token>> for Credentials {
    fn from(token: Option<Token>) -> Self {
        Credentials::fixed(token)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::Fixed(token) => f.debug_tuple("Fixed").field(token).finish(),
            Origin::File(path) => f.debug_tuple("File").field(path).finish(),
            Origin::Source(_) => f.write_str("Source(…)"),
        }
    }
}

/// The token in use, and the source of the next one.
pub(super) struct Keyring {
    origin: Origin,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    key: Key,
    /// Whether the token is known. A source is called before the first request.
    known: bool,
    /// The state of the file when it was last read.
    stamp: Option<Stamp>,
    /// How many reads in a row have failed.
    bad_looks: u32,
    problem: Option<Error>,
}

/// A token, and a number that changes with each token.
#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    number: u64,
    token: Option<Token>,
}

impl Key {
    /// The number, different for each token.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The token's text, as a request carries it; empty if there is no token.
    pub(super) fn text(&self) -> &str {
        self.token.as_ref().map(Token::expose).unwrap_or_default()
    }

    /// What the token says that it may do.
    pub(super) fn access(&self) -> Access {
        self.token.as_ref().map_or(Access::Unknown, Token::access)
    }

    /// `error`, without the token if the server repeated it in its message.
    pub(super) fn remove_from(&self, error: Error) -> Error {
        match &self.token {
            Some(token) if error.message().contains(token.expose()) => {
                let message = error.message().replace(token.expose(), "…");
                error.with_message(message)
            }
            _ => error,
        }
    }
}

impl State {
    /// Takes a token that was read. Gives whether it is a new one.
    fn take(&mut self, token: Option<Token>) -> bool {
        self.known = true;
        let text = |token: &Option<Token>| token.as_ref().map(|token| token.expose().to_owned());
        if text(&token) == text(&self.key.token) {
            return false;
        }
        self.key = Key { number: self.key.number + 1, token };
        true
    }
}

impl Keyring {
    /// A keyring with its first token. A source is not called yet.
    ///
    /// # Errors
    ///
    /// As [`Token::from_file`].
    pub(super) fn new(credentials: Credentials) -> Result<Keyring> {
        let origin = credentials.0;
        let mut state = State::default();
        match &origin {
            Origin::Fixed(token) => drop(state.take(token.clone())),
            Origin::File(path) => {
                // Before reading: the next look then sees a change in between.
                state.stamp = Stamp::of(path);
                state.take(Some(Token::from_file(path)?));
            }
            Origin::Source(_) => {}
        }
        Ok(Keyring { origin, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token in use.
    pub(super) fn current(&self) -> Key {
        self.state().key.clone()
    }

    /// Whether the token can change.
    pub(super) fn may_change(&self) -> bool {
        !matches!(self.origin, Origin::Fixed(_))
    }

    /// The token in use. A source is called if it was not called yet.
    ///
    /// # Errors
    ///
    /// The source's.
    pub(super) async fn obtain(&self) -> Result<Key> {
        if let Origin::Source(source) = &self.origin
            && !self.state().known
        {
            self.ask(source).await?;
        }
        Ok(self.current())
    }

    /// After the remote has refused the token of `number`: whether there is a new one now.
    ///
    /// # Errors
    ///
    /// The source's, or the file's.
    pub(super) async fn after_refusal(&self, number: u64) -> Result<bool> {
        if self.current().number != number {
            return Ok(true);
        }
        match &self.origin {
            Origin::Fixed(_) => Ok(false),
            Origin::File(path) => self.read(path).map_err(|error| self.bad(&error, BAD_LOOKS)),
            Origin::Source(source) => self.ask(source).await,
        }
    }

    /// Checks the file, if the token comes from one. Gives whether there is a new token.
    pub(super) fn look(&self) -> bool {
        let Origin::File(path) = &self.origin else { return false };
        let (stamp, bad) = {
            let state = self.state();
            (state.stamp, state.bad_looks > 0)
        };
        if !bad && stamp.is_some() && Stamp::of(path) == stamp {
            return false;
        }
        match self.read(path) {
            Ok(renewed) => renewed,
            Err(error) => {
                self.bad(&error, 1);
                false
            }
        }
    }

    /// The problem of the file while its former token is in use.
    pub(super) fn problem(&self) -> Option<Error> {
        let state = self.state();
        let problem = state.problem.clone().filter(|_| state.bad_looks >= BAD_LOOKS)?;
        let message = format!("{problem}; the former token stays in use");
        Some(problem.in_words(message))
    }

    fn read(&self, path: &Path) -> Result<bool> {
        let stamp = Stamp::of(path);
        let token = Token::from_file(path)?;
        let mut state = self.state();
        (state.stamp, state.bad_looks, state.problem) = (stamp, 0, None);
        let renewed = state.take(Some(token));
        if renewed {
            tracing::info!(file = %path.display(), "the token's file has another token");
        }
        Ok(renewed)
    }

    /// Records a failed read, and gives the error back.
    fn bad(&self, error: &Error, looks: u32) -> Error {
        let mut state = self.state();
        let said = state.bad_looks >= BAD_LOOKS;
        state.bad_looks = state.bad_looks.saturating_add(looks);
        if state.bad_looks >= BAD_LOOKS && !said {
            tracing::warn!("{error}; the former token stays in use");
        }
        state.problem = Some(error.clone());
        error.clone()
    }

    async fn ask(&self, source: &Arc<Source>) -> Result<bool> {
        let source = Arc::clone(source);
        let asked = tokio::task::spawn_blocking(move || source()).await;
        let failed = |_| Error::unavailable("the application's source of tokens failed");
        let renewed = self.state().take(asked.map_err(failed)??);
        if renewed {
            tracing::info!("the application has given another token");
        }
        Ok(renewed)
    }
}

/// The metadata by which a changed file is recognised without reading it.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    /// Changes also with the owner and the mode.
    changed: (i64, i64),
}

#[cfg(unix)]
impl Stamp {
    /// The file that the path leads to, through symbolic links.
    fn of(path: &Path) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp {
            file: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

#[cfg(not(unix))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<std::time::SystemTime>,
}

#[cfg(not(unix))]
impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp { size: file.len(), modified: file.modified().ok() })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{Permissions, rename, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::error::{Code, Kind};

    fn put(path: &Path, text: &str) {
        write(path, text).unwrap();
        set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn token(keys: &Keyring) -> String {
        keys.current().token.unwrap().expose().to_owned()
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn f71_a_file_is_read_again_however_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        put(&at("v1"), "one");
        symlink("v1", at("data")).unwrap();
        symlink("data", at("token")).unwrap();
        let keys = Keyring::new(Credentials::file(at("token"))).unwrap();
        assert!(!keys.look(), "nothing has changed");
        // In place, with as many bytes.
        put(&at("v1"), "two");
        assert!(keys.look() && !keys.look());
        assert_eq!(token(&keys), "two");
        // By a rename.
        put(&at("new"), "three");
        rename(at("new"), at("v1")).unwrap();
        assert!(keys.look());
        assert_eq!(token(&keys), "three");
        // By a symbolic link in the middle of the path, as Kubernetes does it.
        put(&at("v2"), "four");
        symlink("v2", at("next")).unwrap();
        rename(at("next"), at("data")).unwrap();
        assert!(keys.look());
        assert_eq!(token(&keys), "four");
        // Another file with the same token is no news.
        put(&at("v2"), "four\n");
        assert!(!keys.look());
    }

    #[test]
    fn f71_a_bad_file_leaves_the_token_and_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        put(&path, "s3cret-one");
        let keys = Keyring::new(Credentials::file(&path)).unwrap();
        let bad: [(Code, &dyn Fn()); 4] = [
            (Code::InvalidToken, &|| put(&path, "")),
            (Code::InvalidToken, &|| put(&path, "s3cret two\nthree")),
            (Code::TokenFileExposed, &|| {
                set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            }),
            (Code::TokenFileUnreadable, &|| std::fs::remove_file(&path).unwrap()),
        ];
        for (code, make) in bad {
            make();
            assert!(!keys.look() && keys.problem().is_none(), "it may be written just now");
            assert!(!keys.look());
            let problem = keys.problem().expect("it is said");
            assert_eq!(problem.code(), code, "{problem:?}");
            assert!(!format!("{problem:?}{:?}", keys.current()).contains("s3cret"));
            assert_eq!(token(&keys), "s3cret-one");
            let refused = wait(keys.after_refusal(keys.current().number)).unwrap_err();
            assert_eq!(refused.code(), code, "{refused:?}");
            put(&path, "s3cret-one");
            assert!(!keys.look() && keys.problem().is_none(), "it is good again");
        }
        put(&path, "s3cret-two");
        assert!(keys.look());
        assert_eq!(token(&keys), "s3cret-two");
    }

    #[test]
    fn f71_after_a_refusal_it_is_read_whatever_its_time_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        put(&path, "one");
        let keys = Keyring::new(Credentials::file(&path)).unwrap();
        let number = keys.current().number;
        assert!(!wait(keys.after_refusal(number)).unwrap(), "there is no other");
        put(&path, "two");
        // As if the change had left no trace.
        keys.state().stamp = Stamp::of(&path);
        assert!(!keys.look());
        assert!(wait(keys.after_refusal(number)).unwrap());
        assert!(wait(keys.after_refusal(number)).unwrap(), "another request has read it");
        assert_eq!(token(&keys), "two");
    }

    #[test]
    fn f71_a_source_is_asked_first_and_after_a_refusal() {
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let keys = Keyring::new(Credentials::source(move || {
            let mut asked = counter.lock().unwrap();
            *asked += 1;
            match *asked {
                1 => Err(Error::unavailable("the vault sleeps")),
                2 | 3 => Token::new("one").map(Some),
                4 => Token::new("two").map(Some),
                _ => panic!("it fell"),
            }
        }))
        .unwrap();
        assert_eq!(*asked.lock().unwrap(), 0);
        assert_eq!(wait(keys.obtain()).unwrap_err().message(), "the vault sleeps");
        let one = wait(keys.obtain()).unwrap();
        assert_eq!(wait(keys.obtain()).unwrap().number, one.number);
        assert!(!wait(keys.after_refusal(one.number)).unwrap(), "the same one again");
        assert!(wait(keys.after_refusal(one.number)).unwrap());
        assert_eq!(token(&keys), "two");
        let fell = wait(keys.after_refusal(keys.current().number)).unwrap_err();
        assert_eq!(fell.kind(), Kind::Unavailable);
        assert_eq!(token(&keys), "two");
    }
}
