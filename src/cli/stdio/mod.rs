//! `driftless run --stdio`: a replicator beside a program of another language, which speaks to it
//! over standard input and output. `docs/sidecar.md` describes the protocol, and
//! `schema/sidecar.json` each message.
//!
//! The parts:
//!
//! * [`frame`] reads lines on a thread of its own, and notices the end of standard input.
//! * [`Teller`] is a task. It reads the messages of lines, and collects what is to be told: the
//!   status, changed rows, and answers that have come.
//! * [`serve`] carries out requests, one after the other, on the main thread. A method that asks
//!   the remote gives its answer later.
//! * [`Outgoing`] keeps what waits to be written, and writes it on a thread of its own. If the
//!   client does not read, only that thread waits.

mod frame;
mod message;
mod method;
mod methods;
mod notices;
mod outgoing;
mod params;
mod settings;
mod sidecar;
mod slots;
mod token;

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use self::frame::{Frame, MAX_BYTES};
use self::message::{Caller, Failure, NOT_A_REQUEST, Outcome, Request, answer};
use self::method::Reply;
use self::outgoing::{Outgoing, StatusView};
use self::sidecar::Sidecar;
use self::slots::{Slot, Slots};
use super::exit::Exit;
use super::session::Session;
use super::{signal, stdin};
use crate::error::{Error, Result};
use crate::replicator::{Replicator, Subscription};
use crate::sync::Changes;

/// How often to look at the status of a replicator.
const LOOK: Duration = Duration::from_millis(100);
/// How often to look at the status while replication is paused: it is read from the file.
const PAUSED_LOOK: Duration = Duration::from_millis(500);

/// A request, and the slot of its answer.
struct Call {
    request: Request,
    slot: Slot,
}

/// What a request has led to.
struct Done {
    caller: Caller,
    slot: Slot,
    outcome: Outcome,
}

/// Speaks with the client until standard input ends, a signal comes, or the client asks for the
/// end.
///
/// # Errors
///
/// `Storage` when no thread can be made.
pub(super) fn run(session: &Session) -> Result<Exit> {
    let runtime = signal::runtime()?;
    let outgoing = Arc::new(Outgoing::default());
    let (shown, showing) = watch::channel(None);
    let (call, calls) = channel();
    let (done, outcomes) = unbounded_channel();
    let (frame, frames) = unbounded_channel();
    let (ended, end) = unbounded_channel();
    read(frame, ended.clone())?;
    let writer = write(Arc::clone(&outgoing), ended)?;
    let _within = runtime.enter();
    let signals = signal::stop();
    let teller = Teller { outgoing: Arc::clone(&outgoing), call: Some(call), showing };
    let telling = runtime.spawn(teller.tell(frames, outcomes, end, signals));
    let mut sidecar = Sidecar::new(session, runtime.handle().clone(), shown);
    serve(&mut sidecar, &calls, &done, &outgoing);
    // Whatever takes long from here on is cut short.
    stdin::exit_soon()?;
    if sidecar.file().is_ok() {
        sidecar.pause()?;
    }
    // No answer comes after this, so the teller ends.
    drop((done, calls));
    let told = runtime.block_on(telling);
    outgoing.close();
    // Its panic was printed, as the teller's was.
    let _ = writer.join();
    told.unwrap_or(Ok(())).map(|()| Exit::Success)
}

/// Starts the thread that reads standard input.
fn read(frame: UnboundedSender<Frame>, ended: UnboundedSender<()>) -> Result<()> {
    let slots = Arc::new(Slots::default());
    let work = move || {
        let input = std::io::BufReader::new(std::io::stdin());
        frame::read(input, &slots, stdin::is_over, |line| {
            // At the end nobody receives it.
            let _ = frame.send(line);
        });
        let _ = ended.send(());
    };
    thread("stdin", work).map(drop)
}

/// Starts the thread that writes to standard output.
fn write(outgoing: Arc<Outgoing>, ended: UnboundedSender<()>) -> Result<JoinHandle<()>> {
    thread("stdout", move || {
        if outgoing.write(std::io::stdout()).is_err() {
            // Nobody reads any more.
            let _ = ended.send(());
        }
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    let made = builder.spawn(work);
    made.map_err(|source| Error::storage("no thread could be started").with_source(source))
}

/// Carries out requests until no more come, or one asks for the end.
fn serve(
    sidecar: &mut Sidecar<'_>,
    calls: &Receiver<Call>,
    done: &UnboundedSender<Done>,
    outgoing: &Outgoing,
) {
    loop {
        match calls.recv_timeout(PAUSED_LOOK) {
            Ok(call) => {
                if !perform(sidecar, call, done) {
                    return;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A file that cannot be read now has no status that could be told.
        if sidecar.is_paused()
            && let Ok(status) = sidecar.status()
        {
            outgoing.status(status);
        }
    }
}

/// Carries out a request. False if it asked for the end.
fn perform(sidecar: &mut Sidecar<'_>, call: Call, done: &UnboundedSender<Done>) -> bool {
    let Call { request, slot } = call;
    let (caller, method, params) = request.into_parts();
    let (outcome, goes_on) = match methods::call(sidecar, &method, params) {
        Ok(Reply::Later(outcome)) => {
            let done = done.clone();
            tokio::spawn(async move {
                let outcome = outcome.await;
                // At the end nobody receives it.
                let _ = done.send(Done { caller, slot, outcome });
            });
            return true;
        }
        Ok(Reply::Now(result)) => (Ok(result), true),
        Ok(Reply::Last(result)) => (Ok(result), false),
        Err(failure) => (Err(failure), true),
    };
    let _ = done.send(Done { caller, slot, outcome });
    goes_on
}

/// The task that tells the client what there is to tell.
struct Teller {
    outgoing: Arc<Outgoing>,
    /// `None` once no more requests are taken.
    call: Option<Sender<Call>>,
    showing: watch::Receiver<Option<Arc<Replicator>>>,
}

impl Teller {
    /// Runs until all answers have come after the end. The changes and the status that a method has
    /// caused are told before its answer.
    async fn tell(
        mut self,
        mut frames: UnboundedReceiver<Frame>,
        mut outcomes: UnboundedReceiver<Done>,
        mut end: UnboundedReceiver<()>,
        signals: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let mut signals = pin!(signals);
        let mut ticks = tokio::time::interval(LOOK);
        let mut subscription = None;
        while !outcomes.is_closed() || !outcomes.is_empty() {
            tokio::select! {
                biased;
                Ok(()) = self.showing.changed() => {
                    self.drain(subscription.as_mut());
                    let shown = self.showing.borrow_and_update();
                    subscription = shown.as_ref().map(|replicator| replicator.subscribe());
                }
                changes = next(&mut subscription) => self.outgoing.changes(changes),
                Some(done) = outcomes.recv() => {
                    self.look();
                    self.answer(done);
                }
                Some(frame) = frames.recv(), if self.call.is_some() => self.read(frame),
                Some(()) = end.recv(), if self.call.is_some() => self.end()?,
                stopped = &mut signals, if self.call.is_some() => {
                    self.end()?;
                    stopped?;
                }
                _ = ticks.tick() => self.look(),
            }
        }
        Ok(())
    }

    /// Tells the rest of what a replicator has changed that has ended.
    fn drain(&self, mut ended: Option<&mut Subscription>) {
        while let Some(changes) = ended.as_mut().and_then(|changes| changes.try_next()) {
            self.outgoing.changes(changes);
        }
    }

    /// Takes no more requests. What takes long from here on is cut short.
    fn end(&mut self) -> Result<()> {
        self.call = None;
        stdin::exit_soon()
    }

    /// Tells the status of the replicator, if it is news. A replicator that is paused meanwhile
    /// waits for this, so that its status does not come after that of the pause.
    fn look(&self) {
        if let Some(replicator) = self.showing.borrow().as_ref() {
            self.outgoing.status(StatusView::new(replicator.status(), false));
        }
    }

    /// Hands a request over, or says why it is none.
    fn read(&self, frame: Frame) {
        let (read, slot) = match frame {
            Frame::Message(line, slot) => (Request::read(&line), slot),
            Frame::TooLong(slot) => {
                let message = format!("a message has at most {MAX_BYTES} bytes");
                let failure = Failure::new(NOT_A_REQUEST, message);
                (Err((Caller::Waits(Json::Null), failure)), slot)
            }
        };
        match (read, &self.call) {
            (Ok(request), Some(call)) => {
                // It fails at the end only, when nobody waits for an answer.
                let _ = call.send(Call { request, slot });
            }
            (Ok(_), None) => {}
            (Err((caller, failure)), _) => {
                self.answer(Done { caller, slot, outcome: Err(failure) });
            }
        }
    }

    fn answer(&self, Done { caller, slot, outcome }: Done) {
        match (&caller, &outcome) {
            (Caller::Waits(id), outcome) => self.outgoing.answer(answer(id, outcome), slot),
            (Caller::Nobody, Err(failure)) => tracing::warn!(?failure, "a notification failed"),
            (Caller::Nobody, Ok(_)) => {}
        }
    }
}

/// The next changes; never, where there is nothing that changes.
async fn next(subscription: &mut Option<Subscription>) -> Changes {
    if let Some(changes) = subscription.as_mut() {
        if let Some(changes) = changes.next().await {
            return changes;
        }
        *subscription = None;
    }
    std::future::pending().await
}
