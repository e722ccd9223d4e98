//! A history: the tables, and the steps that a world takes. It is data, made from a seed alone, so
//! steps can be left out of it, and it can be kept.

use driftless::sync::{PullSize, PushSize};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::groups::{pull_of, push_of};
use super::shape::Shape;

/// Steps of a world, at least and at most.
const STEPS: std::ops::RangeInclusive<usize> = 22..=55;
/// The same from this seed on: where a run takes hours, histories may be longer.
const LONG_STEPS: std::ops::RangeInclusive<usize> = 40..=120;
const LONG_FROM: u64 = 1_000_000;
/// How many worlds have three replicas at first, and not two; others may join.
const THREE: f64 = 0.3;
/// A year, in ms.
const YEAR_MS: i64 = 365 * 86_400_000;

/// What becomes of a request and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    /// Both arrive.
    Through,
    /// The request never arrives.
    LostBefore,
    /// It takes effect, and its answer is lost.
    LostAfter,
    /// It takes effect, and its answer comes later.
    AnswerLate,
    /// It is given up, and arrives later.
    RequestLate,
    /// It arrives twice.
    Twice,
    /// It arrives, and its answer does so twice.
    AnsweredTwice,
    /// 429 or 503.
    Overloaded,
    /// 401.
    Refused,
    /// The remote dies after so many statements.
    RemoteDies(u8),
}

/// One step. Replicas are counted modulo how many there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// The application's transaction. The machine may be told, or find out by itself.
    Write {
        at: usize,
        sql: Vec<String>,
        told: bool,
        abandoned: bool,
    },
    /// The web application's transaction.
    Web {
        sql: Vec<String>,
    },
    /// The request under way is carried to the remote.
    Carry {
        at: usize,
        fate: Fate,
    },
    /// An answer that was late comes.
    Answer {
        at: usize,
    },
    /// A request that was late comes, the answer to which nobody waits for any more.
    Ghost {
        which: usize,
    },
    /// The page that waits is integrated.
    Integrate {
        at: usize,
    },
    /// Time passes, up to the next timer.
    Pass {
        at: usize,
        ms: u64,
    },
    /// A replica works for a while, its requests having these fates.
    Sync {
        at: usize,
        ms: u64,
        fates: Vec<Fate>,
    },
    /// The process dies, with the application's own connection if `whole`, and may be started
    /// again at once.
    Crash {
        at: usize,
        whole: bool,
        again: bool,
    },
    /// A process that is dead is started.
    Start {
        at: usize,
    },
    /// Nothing gets through from here on, or everything again.
    Cut {
        at: usize,
        cut: bool,
    },
    /// The greatest request and answer, in bytes.
    Caps {
        up: usize,
        down: usize,
    },
    /// A clock is set.
    Clock {
        at: usize,
        ms: i64,
    },
    /// The disk has room for so many pages more, or for any number.
    Disk {
        at: usize,
        room: Option<u32>,
    },
    /// A person restores a lost event, perhaps under a new key, or takes it off the list.
    Restore {
        at: usize,
        which: usize,
        fresh: bool,
    },
    Dismiss {
        at: usize,
        which: usize,
    },
    /// A constraint that this database alone has comes or goes.
    Constrain {
        at: usize,
        which: usize,
        on: bool,
    },
    /// A person tries the quarantine again.
    Retry {
        at: usize,
    },
    /// A new replica, with rows of its own.
    Join {
        rows: Vec<Vec<String>>,
    },
    /// A replica's file is copied away.
    Save {
        at: usize,
    },
    /// A replica's file is what it was when it was copied.
    Return {
        at: usize,
    },
    /// A replica's file is restored to that in place, while all goes on, and the copy is then of
    /// what it was just now; without a copy, one is made. The machine may be told, or find out by
    /// itself.
    Rewind {
        at: usize,
        told: bool,
    },
    /// A copy of a replica's file goes on beside it.
    Copy {
        at: usize,
    },
    /// The remote's file is copied away.
    RemoteSave,
    /// The remote is what it was when it was copied.
    RemoteReturn,
    /// The remote's database is made anew, without anything of ours.
    RemoteWipe,
    /// A person goes on with the remote that is there.
    Accept {
        at: usize,
    },
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    pub(crate) replicas: usize,
    /// What a push carries in one request.
    #[serde(default)]
    pub(crate) push: PushSize,
    /// What a pull brings at once.
    #[serde(default)]
    pub(crate) pull: PullSize,
    pub(crate) steps: Vec<Step>,
}

/// Which faults a world has, and how often: none has all of them, so that some get deep.
struct Weather {
    faulty: f64,
    fates: Vec<Fate>,
    crashes: bool,
    cuts: bool,
    caps: bool,
    clocks: bool,
    disk: bool,
    inbox: bool,
    constraints: bool,
    joins: bool,
    files: bool,
    remotes: bool,
    rewinds: bool,
}

impl Weather {
    fn new(random: &mut Rng) -> Self {
        let all = [
            Fate::LostBefore,
            Fate::LostAfter,
            Fate::LostAfter,
            Fate::AnswerLate,
            Fate::RequestLate,
            Fate::Twice,
            Fate::AnsweredTwice,
            Fate::Overloaded,
            Fate::Refused,
            Fate::RemoteDies(0),
        ];
        let fates = all.into_iter().filter(|_| random.f64() < 0.6).collect();
        let mut often = |p: f64| random.f64() < p;
        Weather {
            crashes: often(0.6),
            cuts: often(0.4),
            caps: often(0.35),
            clocks: often(0.3),
            disk: often(0.25),
            inbox: often(0.6),
            constraints: often(0.35),
            joins: often(0.2),
            files: often(0.25),
            remotes: often(0.15),
            rewinds: often(0.4),
            faulty: [0.1, 0.3, 0.5][random.usize(..3)],
            fates,
        }
    }

    fn fate(&self, random: &mut Rng) -> Fate {
        if self.fates.is_empty() || random.f64() >= self.faulty {
            return Fate::Through;
        }
        match self.fates[random.usize(..self.fates.len())] {
            Fate::RemoteDies(_) => Fate::RemoteDies(random.u8(..4)),
            fate => fate,
        }
    }
}

impl History {
    /// The history of a seed.
    pub(crate) fn of(seed: u64) -> History {
        let mut random = Rng::with_seed(seed ^ 0x5EED);
        let shape = Shape::of(seed);
        let weather = Weather::new(&mut random);
        let replicas = if random.f64() < THREE { 3 } else { 2 };
        let count = random.usize(if seed < LONG_FROM { STEPS } else { LONG_STEPS });
        let steps = (0..count).map(|_| step(&mut random, &shape, &weather)).collect();
        History { seed, shape, replicas, push: push_of(seed), pull: pull_of(seed), steps }
    }
}

fn step(random: &mut Rng, shape: &Shape, weather: &Weather) -> Step {
    let at = random.usize(..60);
    match random.u8(..100) {
        0 if weather.caps && shape.has("m") => Step::Write {
            at,
            sql: vec![shape.large(random)],
            told: random.bool(),
            abandoned: false,
        },
        0..34 => Step::Write {
            at,
            sql: {
                let mut sql = shape.transaction(random);
                shape.beside(random, &mut sql);
                sql
            },
            told: random.bool(),
            abandoned: random.u8(..20) == 0,
        },
        34..44 => Step::Web { sql: shape.transaction(random) },
        44..58 => Step::Carry { at, fate: weather.fate(random) },
        58..62 => Step::Answer { at },
        62..70 => Step::Integrate { at },
        70..76 => Step::Pass { at, ms: [10, 1_000, 60_000][random.usize(..3)] },
        76..88 => {
            let fates = (0..random.usize(1..=3)).map(|_| weather.fate(random)).collect();
            Step::Sync { at, ms: 1_000, fates }
        }
        _ => trouble(random, shape, weather, at),
    }
}

fn trouble(random: &mut Rng, shape: &Shape, weather: &Weather, at: usize) -> Step {
    let which = random.usize(..60);
    match random.u8(..38) {
        0..3 if weather.crashes => {
            Step::Crash { at, whole: random.bool(), again: random.u8(..3) > 0 }
        }
        3 => Step::Start { at },
        4..6 => Step::Ghost { which },
        6..8 if weather.cuts => Step::Cut { at, cut: random.bool() },
        8..10 if weather.caps => {
            let up = [2_000, 3_500, 8_000, 270_000, usize::MAX][random.usize(..5)];
            let down = [1_500, 3_000, 8_000, usize::MAX][random.usize(..4)];
            Step::Caps { up, down }
        }
        10 if weather.clocks => {
            let ms = [-YEAR_MS, YEAR_MS, -300_000, 300_000, 0][random.usize(..5)];
            Step::Clock { at, ms }
        }
        11..14 if weather.disk => {
            Step::Disk { at, room: (random.u8(..3) > 0).then(|| random.u32(..4)) }
        }
        14..17 if weather.inbox => Step::Restore { at, which, fresh: random.u8(..4) == 0 },
        17 if weather.inbox => Step::Dismiss { at, which },
        18..20 if weather.constraints => Step::Constrain { at, which, on: random.u8(..3) > 0 },
        20 if weather.constraints => Step::Retry { at },
        21 if weather.joins => {
            Step::Join { rows: (0..6).map(|_| shape.transaction(random)).collect() }
        }
        22..25 if weather.files => Step::Save { at },
        25..27 if weather.files => Step::Return { at },
        27 if weather.files => Step::Copy { at },
        28 if weather.remotes => Step::RemoteSave,
        29 if weather.remotes => Step::RemoteReturn,
        30 if weather.remotes && random.bool() => Step::RemoteWipe,
        30..32 if weather.remotes => Step::Accept { at },
        32..38 if weather.rewinds => Step::Rewind { at, told: random.bool() },
        _ => Step::Sync { at, ms: 5_000, fates: Vec::new() },
    }
}
