//! Runs a history, or one that fails with steps left out until it is as short as it gets.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use serde::{Deserialize, Serialize};

use super::coverage::Seen;
use super::history::{History, Step};
use super::world::World;

/// How many times a history that fails is run again to make it shorter.
const ATTEMPTS: usize = 600;

/// Where and how a history failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// How many steps had been taken before; all of them if it failed at rest.
    pub(crate) step: usize,
    pub(crate) what: String,
}

/// What came of a history.
pub(crate) struct Ran {
    pub(crate) failure: Option<Failure>,
    pub(crate) seen: Seen,
    pub(crate) steps: u64,
}

thread_local! {
    /// What the last panic said, where panics are expected.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs `work`; a panic becomes its message, and is not printed.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.with(|quiet| *quiet.borrow()) {
                return before(info);
            }
            PANIC.with(|panic| *panic.borrow_mut() = Some(format!("panic: {info}")));
        }));
    });
    QUIET.with(|quiet| *quiet.borrow_mut() = true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    QUIET.with(|quiet| *quiet.borrow_mut() = false);
    outcome.unwrap_or_else(|_| {
        Err(PANIC.with(|panic| panic.borrow_mut().take()).unwrap_or_else(|| "panic".to_owned()))
    })
}

/// Runs a history.
pub(crate) fn run(history: &History, trace: bool) -> Ran {
    let mut taken = 0;
    let mut ran = Ran { failure: None, seen: Seen::default(), steps: 0 };
    let outcome = caught(|| {
        let mut world = World::new(history, trace)?;
        let mut done = Ok(());
        for step in &history.steps {
            done = caught(|| world.apply(step));
            if done.is_err() {
                break;
            }
            taken += 1;
        }
        let done = done.and_then(|()| caught(|| world.rest()));
        ran.seen.add(&world.seen);
        ran.steps = world.steps;
        done
    });
    ran.failure = outcome.err().map(|what| Failure { step: taken, what });
    ran
}

/// Leaves out what can be left out of a history that fails, by delta debugging: steps first, then
/// statements and fates within them.
pub(crate) fn shrink(history: &History, failure: &Failure) -> (History, Failure) {
    let mut best = history.clone();
    best.steps.truncate(failure.step + 1);
    let mut attempts = 0;
    let mut worst = failure.clone();
    let mut fails = |history: &History| {
        attempts += 1;
        (attempts <= ATTEMPTS).then(|| run(history, false).failure).flatten()
    };
    let mut chunk = best.steps.len().div_ceil(2).max(1);
    loop {
        let (mut at, mut shorter) = (0, false);
        while at < best.steps.len() {
            let mut less = best.clone();
            less.steps.drain(at..(at + chunk).min(best.steps.len()));
            match fails(&less) {
                Some(failure) => (best, worst, shorter) = (less, failure, true),
                None => at += chunk,
            }
        }
        if chunk == 1 && !shorter {
            break;
        }
        chunk = if chunk == 1 { 1 } else { chunk / 2 };
    }
    for at in 0..best.steps.len() {
        loop {
            let smaller = parts(&best.steps[at]).into_iter().find_map(|step| {
                let mut less = best.clone();
                less.steps[at] = step;
                fails(&less).map(|failure| (less, failure))
            });
            match smaller {
                Some((less, failure)) => (best, worst) = (less, failure),
                None => break,
            }
        }
    }
    (best, worst)
}

/// A step with one thing in it left out.
fn parts(step: &Step) -> Vec<Step> {
    fn without<T: Clone>(all: &[T]) -> impl Iterator<Item = Vec<T>> + '_ {
        let all_but = |at| {
            let mut less = all.to_vec();
            less.remove(at);
            less
        };
        (0..all.len()).map(all_but)
    }
    match step {
        Step::Write { at, sql, told, abandoned } if sql.len() > 1 => without(sql)
            .map(|sql| Step::Write { at: *at, sql, told: *told, abandoned: *abandoned })
            .collect(),
        Step::Web { sql } if sql.len() > 1 => without(sql).map(|sql| Step::Web { sql }).collect(),
        Step::Sync { at, ms, fates } => {
            without(fates).map(|fates| Step::Sync { at: *at, ms: *ms, fates }).collect()
        }
        Step::Join { rows } => without(rows).map(|rows| Step::Join { rows }).collect(),
        _ => Vec::new(),
    }
}
