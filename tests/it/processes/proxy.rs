//! A TCP proxy between a replica and its remote that fails as it is told.
//!
//! It knows as much of HTTP as it needs to know where a request and its answer end: so a fault can be
//! put before a request takes effect, after it did, or in the middle of the answer, and not only
//! somewhere. What it does with each request is drawn from the faults of the moment, by a seed; they
//! can be changed at any time. The hub behind it may go and come back elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{PATIENCE, wait_for};

/// The longest delay of [`Fault::Slow`], in ms.
const SLOW_MS: u64 = 25;
/// How often a thread that holds a connection looks whether its client has gone.
const LOOK: Duration = Duration::from_millis(20);
/// The most bytes of a request's head.
const HEAD: usize = 64 << 10;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Nothing: it goes through.
    None,
    /// It goes through, later.
    Slow,
    /// It goes through twice, as a proxy in the middle may do that tries again by itself. The second
    /// answer is delivered.
    Twice,
    /// The connection is reset when a part of the request has arrived.
    ResetRequest,
    /// It takes effect; the connection is reset in the middle of the answer.
    ResetAnswer,
    /// It takes effect; the connection ends, in order, in the middle of the answer.
    CutAnswer,
    /// It takes effect; the answer's head is whole and says how long the body is, and the body is
    /// cut off in front of that.
    CutBody,
    /// It takes effect; the answer is whole as HTTP, but its JSON ends in the middle.
    CutJson,
    /// It takes effect, and nobody hears of it: the connection stays open, and nothing comes.
    HalfOpen,
    /// It goes nowhere: the connection stays open, and nothing comes.
    BlackHole,
    /// It takes effect, and what comes is random bytes.
    Garbage,
    /// It takes effect, and the answer's head is the server's, but its body random bytes.
    GarbageBody,
    /// It goes nowhere; the answer is an error page that is not UTF-8.
    ErrorPage,
    /// The same, after it took effect.
    LateErrorPage,
    /// It goes nowhere; a page in HTML with this HTTP status, as the login page of a hotel's network.
    Page(u16),
    /// It goes nowhere; HTTP 503.
    Unavailable,
    /// It goes nowhere; HTTP 429.
    TooMany,
    /// It waits before it goes on: see [`Proxy::held`].
    HoldRequest,
    /// It takes effect, and its answer waits.
    HoldAnswer,
    /// Its connection is forgotten, and so it goes nowhere: see [`Proxy::forget`].
    Forgotten,
}

/// Every fault that comes without anybody to look after it.
pub(super) const RANDOM: [Fault; 16] = [
    Fault::None,
    Fault::Slow,
    Fault::Twice,
    Fault::ResetRequest,
    Fault::ResetAnswer,
    Fault::CutAnswer,
    Fault::CutBody,
    Fault::CutJson,
    Fault::HalfOpen,
    Fault::BlackHole,
    Fault::Garbage,
    Fault::GarbageBody,
    Fault::ErrorPage,
    Fault::LateErrorPage,
    Fault::Unavailable,
    Fault::TooMany,
];

/// A request that waits, or the answer to one. It goes on when it is let go, and its connection ends
/// when it is dropped.
pub(super) struct Held(Sender<()>);

impl Held {
    /// Lets it go on.
    pub(super) fn let_go(self) {
        // Its client has gone, perhaps.
        let _ = self.0.send(());
    }
}

struct State {
    random: fastrand::Rng,
    faults: Vec<Fault>,
    next: VecDeque<Fault>,
    hub: Option<SocketAddr>,
    seen: BTreeMap<Fault, usize>,
    /// Connections of an earlier age are forgotten.
    age: usize,
    closed: bool,
}

/// See the module.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    held: Receiver<Held>,
}

impl Proxy {
    /// A proxy that lets everything through to nowhere, until [`Proxy::lead_to`].
    pub(super) fn new(seed: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            faults: vec![Fault::None],
            next: VecDeque::new(),
            hub: None,
            seen: BTreeMap::new(),
            age: 0,
            closed: false,
        }));
        let (holder, held) = channel();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let State { closed, age, .. } = *lock(&shared);
                if closed {
                    return;
                }
                let line = Line { state: Arc::clone(&shared), age, holder: holder.clone() };
                std::thread::spawn(move || {
                    // What goes wrong here is a broken connection to the client, as it should be.
                    let _ = line.serve(client);
                });
            }
        });
        Proxy { address, state, held }
    }

    /// Where replicas find it.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads to a hub from now on.
    pub(super) fn lead_to(&self, hub: Option<SocketAddr>) {
        lock(&self.state).hub = hub;
    }

    /// Each request from now on meets one of these, by chance.
    pub(super) fn fail(&self, faults: &[Fault]) {
        lock(&self.state).faults = faults.to_vec();
    }

    /// The next requests meet these, one each, and those after them what was set before.
    pub(super) fn fail_next(&self, faults: &[Fault]) {
        lock(&self.state).next.extend(faults);
    }

    /// Everything goes through from now on. What is in a hole stays there.
    pub(super) fn heal(&self) {
        let mut state = lock(&self.state);
        state.faults = vec![Fault::None];
        state.next.clear();
    }

    /// Forgets the connections that there are, as a router does with those of a machine that sleeps:
    /// what is sent on them goes nowhere, and nobody says so. New ones are carried as usual.
    pub(super) fn forget(&self) {
        lock(&self.state).age += 1;
    }

    /// How many requests have met a fault.
    pub(super) fn seen(&self, fault: Fault) -> usize {
        lock(&self.state).seen.get(&fault).copied().unwrap_or(0)
    }

    /// How many requests there were.
    pub(super) fn requests(&self) -> usize {
        lock(&self.state).seen.values().sum()
    }

    /// Waits until a request is held, or its answer.
    pub(super) fn held(&self) -> Held {
        self.held.recv_timeout(PATIENCE).expect("a request comes that can be held")
    }

    /// The same, or until nobody is there any more who could send one.
    pub(super) fn held_unless(&self, mut gone: impl FnMut() -> bool) -> Option<Held> {
        let mut held = None;
        wait_for("a request comes, or its sender goes", || {
            held = self.held.try_recv().ok();
            held.is_some() || gone()
        });
        held
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.state).closed = true;
        // So that the listener looks.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client's connection.
struct Line {
    state: Arc<Mutex<State>>,
    age: usize,
    holder: Sender<Held>,
}

impl Line {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::new(client.try_clone()?);
        while let Some(request) = read_request(&mut reader)? {
            let fault = self.draw();
            if !self.pass(&client, &request, fault)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn draw(&self) -> Fault {
        let mut state = lock(&self.state);
        let fault = match state.next.pop_front() {
            _ if state.age != self.age => Fault::Forgotten,
            Some(fault) => fault,
            None => {
                let faults = state.faults.len();
                let at = state.random.usize(..faults);
                state.faults[at]
            }
        };
        *state.seen.entry(fault).or_default() += 1;
        fault
    }

    fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut lock(&self.state).random)
    }

    /// Carries one request and its answer. False when the connection is at its end.
    fn pass(&self, client: &TcpStream, request: &[u8], fault: Fault) -> io::Result<bool> {
        match fault {
            Fault::ResetRequest => {
                let part = self.random(|random| random.usize(..request.len()));
                // The hub gets half a request, and then its end.
                if let Ok(mut hub) = self.connect() {
                    let _ = hub.write_all(&request[..part]);
                }
                return reset(client).map(|()| false);
            }
            Fault::BlackHole | Fault::Forgotten => {
                return self.wait_for_end(client).map(|()| false);
            }
            Fault::ErrorPage => return page(client, "502 Bad Gateway", BINARY),
            Fault::Page(status) => {
                return page(client, &format!("{status} As It Is"), LOGIN);
            }
            Fault::Unavailable => return page(client, "503 Service Unavailable", b"upstream"),
            Fault::TooMany => return page(client, "429 Too Many Requests", b"slow down"),
            Fault::HoldRequest if !self.hold(client) => return Ok(false),
            Fault::Slow => {
                let ms = self.random(|random| random.u64(..SLOW_MS));
                std::thread::sleep(Duration::from_millis(ms));
            }
            _ => {}
        }
        if fault == Fault::HoldRequest && lock(&self.state).age != self.age {
            return self.wait_for_end(client).map(|()| false);
        }
        let answer = match self.ask(request) {
            Ok(_) if fault == Fault::Twice => self.ask(request),
            answer => answer,
        };
        let Ok(answer) = answer else {
            // There is no hub, or it died over this request.
            return reset(client).map(|()| false);
        };
        self.deliver(client, &answer, fault)
    }

    fn deliver(&self, mut client: &TcpStream, answer: &[u8], fault: Fault) -> io::Result<bool> {
        let part = self.random(|random| random.usize(..answer.len()));
        match fault {
            Fault::ResetAnswer => {
                client.write_all(&answer[..part])?;
                reset(client).map(|()| false)
            }
            Fault::CutAnswer => client.write_all(&answer[..part]).map(|()| false),
            Fault::CutBody | Fault::CutJson => {
                let head = head_end(answer).unwrap_or(answer.len());
                let (head, body) = answer.split_at(head);
                let most = body.len().max(2);
                let body = &body[..self.random(|random| random.usize(1..most))];
                let whole = fault == Fault::CutJson;
                let head = if whole { with_length(head, body.len()) } else { head.to_vec() };
                client.write_all(&head)?;
                client.write_all(body).map(|()| whole)
            }
            Fault::HalfOpen => self.wait_for_end(client).map(|()| false),
            Fault::Garbage => {
                let bytes = self.random(|random| noise(random, part.max(16)));
                client.write_all(&bytes).map(|()| false)
            }
            Fault::GarbageBody => {
                let head = head_end(answer).unwrap_or(answer.len());
                let bytes = self.random(|random| noise(random, answer.len() - head));
                client.write_all(&answer[..head])?;
                client.write_all(&bytes).map(|()| false)
            }
            Fault::LateErrorPage => page(client, "502 Bad Gateway", BINARY),
            Fault::HoldAnswer if !self.hold(client) => Ok(false),
            _ => client.write_all(answer).map(|()| true),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let hub = lock(&self.state).hub;
        let stream = TcpStream::connect(hub.ok_or(io::ErrorKind::NotConnected)?)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The hub's whole answer, as it came.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut hub = self.connect()?;
        let end = head_end(request).ok_or(io::ErrorKind::InvalidData)?;
        // The answer ends with the connection, but the client's connection goes on.
        let (head, body) = request.split_at(end - 2);
        hub.write_all(head)?;
        hub.write_all(b"connection: close\r\n")?;
        hub.write_all(body)?;
        let mut answer = Vec::new();
        hub.read_to_end(&mut answer)?;
        let end = head_end(&answer).ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let length = content_length(&head).ok_or(io::ErrorKind::InvalidData)?;
        if answer.len() - end != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let kept = head
            .split_inclusive("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let mut whole: Vec<u8> = kept.collect::<String>().into_bytes();
        whole.extend_from_slice(&answer[end..]);
        Ok(whole)
    }

    /// Waits until somebody lets the request go on. False if nobody does, or the client has gone.
    fn hold(&self, client: &TcpStream) -> bool {
        let (sender, released) = channel();
        if self.holder.send(Held(sender)).is_err() {
            return false;
        }
        loop {
            match released.recv_timeout(LOOK) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) if self.is_over(client) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Keeps the connection open until the client gives it up.
    fn wait_for_end(&self, client: &TcpStream) -> io::Result<()> {
        while !self.is_over(client) {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn is_over(&self, client: &TcpStream) -> bool {
        let quiet = client.set_nonblocking(true);
        let peeked = client.peek(&mut [0]);
        let loud = client.set_nonblocking(false);
        let gone = match peeked {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        gone || quiet.is_err() || loud.is_err() || lock(&self.state).closed
    }
}

/// The body of an error page that is not UTF-8.
const BINARY: &[u8] = b"<html>\xff\xfe the upstream has gone \xc3\x28\xa0</html>";

/// The body of a page that asks a guest to log in.
const LOGIN: &[u8] = b"<!doctype html><html><body><form>Your room number?</form></body></html>";

/// An error page as proxies have them: not JSON.
fn page(mut client: &TcpStream, status: &str, body: &[u8]) -> io::Result<bool> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=latin-1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body)?;
    Ok(true)
}

fn reset(client: &TcpStream) -> io::Result<()> {
    // Closed so, it sends RST. The reader is a second handle of the same socket.
    socket2::SockRef::from(client).set_linger(Some(Duration::ZERO))
}

fn noise(random: &mut fastrand::Rng, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Where the head ends, its empty line included.
fn head_end(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// The head of a message for a body of another length.
fn with_length(head: &[u8], length: usize) -> Vec<u8> {
    let head = String::from_utf8_lossy(head);
    let other = |line: &&str| !line.to_ascii_lowercase().starts_with("content-length:");
    let mut lines: Vec<_> = head.split_inclusive("\r\n").filter(other).collect();
    let line = format!("content-length: {length}\r\n");
    lines.insert(1, &line);
    lines.concat().into_bytes()
}

/// A whole request; `None` when the client has ended the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut request)? == 0 || request.len() > HEAD {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let length = content_length(&head).unwrap_or(0);
    let begin = request.len();
    request.resize(begin + length, 0);
    reader.read_exact(&mut request[begin..])?;
    Ok(Some(request))
}
