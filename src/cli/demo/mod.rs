//! `driftless demo`: replication, shown step by step.
//!
//! A [`Stage`] has a hub, a desktop for each replica of the story (a real
//! [`Replicator`](crate::Replicator) on a file, and an application's connection beside it), and a
//! web app that writes plain SQL to the hub. The story is a [`script`]: its steps run unchanged,
//! and their outcome is read from a replica's log. A desktop that is offline still writes to its
//! file, while its replicator cannot reach the hub. At the end [`proof`] reads every row of all
//! databases.
//!
//! The names of tables and people are in the fixtures only.

mod cast;
mod proof;
mod script;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::script::{Directive, Step};
use self::stage::{Stage, tell};
use super::exit::Exit;
use super::output::{Output, Tone};
use super::session::Session;
use super::signal;
use crate::error::{Error, Result};
use crate::sync::now_ms;

/// The story.
const STORY: &str = include_str!("../../../fixtures/gym/demo/story.sql");
/// The steps that are repeated after it.
const LOOP: &str = include_str!("../../../fixtures/gym/demo/loop.sql");

/// Time to read a line before the next one. There is no pause in a pipe.
const READING: Duration = Duration::from_millis(350);
/// The range of the pause between two steps after the story, in ms.
const PAUSE_MS: std::ops::Range<u64> = 20..150;
/// After the story, the desktop that it takes offline leaves or joins the network this often.
const ONLINE: Duration = Duration::from_secs(3);

/// The arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder for the databases; it must be empty or not exist yet
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Continue for N seconds after the story, with small writes by everybody
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// Plays the story, continues for the requested time, and proves that all databases are equal.
///
/// # Errors
///
/// `Usage` when the folder is in use; otherwise the errors of [`Stage`].
pub(crate) fn demo(session: &Session, args: &DemoArgs) -> Result<Exit> {
    let folder = prepare_folder(args.dir.as_deref())?;
    let advice = format!("interrupted; the databases are in {}", folder.display());
    signal::end_at_once(session.output(), Exit::Interrupted, advice)?;
    let story = script::parse(STORY)?;
    signal::runtime()?.block_on(async {
        let mut stage = Stage::set(session.output(), &folder, &story).await?;
        play(session.output(), &mut stage, &story).await?;
        if let Some(seconds) = args.seconds {
            go_on(session.output(), &mut stage, &story, Duration::from_secs(seconds)).await?;
        }
        let equal = finish(session.output(), &stage).await?;
        stage.clear().await?;
        if !session.output().is_json() {
            farewell(session.output(), &stage)?;
        }
        Ok(if equal { Exit::Success } else { Exit::Divergence })
    })
}

/// The named folder, if it is empty or can be created; a new one if none was named.
fn prepare_folder(named: Option<&Path>) -> Result<PathBuf> {
    let folder = match named {
        Some(folder) => folder.to_owned(),
        None => {
            let name = format!("driftless-demo-{:x}-{:x}", now_ms(), std::process::id());
            std::env::temp_dir().join(name)
        }
    };
    let unusable = |source: std::io::Error| {
        Error::usage(format!("{} cannot be used: {source}", folder.display()))
            .with_hint("name a folder with --dir that is empty or does not exist yet")
    };
    std::fs::create_dir_all(&folder).map_err(unusable)?;
    if std::fs::read_dir(&folder).map_err(unusable)?.next().is_some() {
        return Err(Error::usage(format!("{} is not empty", folder.display()))
            .with_hint("name a folder with --dir that is empty or does not exist yet"));
    }
    Ok(folder)
}

async fn play(output: &Output, stage: &mut Stage, story: &[Directive]) -> Result<()> {
    for directive in story {
        match directive {
            Directive::Replica(_) | Directive::Remote(_) => continue,
            Directive::Step(step) => {
                tell(output, step.who(), step.sentence())?;
                stage.perform(step).await?;
            }
            Directive::Sync => stage.sync().await?,
            Directive::Offline(name) => {
                tell(output, name, Tone::Notable.paint("is cut off from the network."))?;
                stage.desktop(name)?.cut(true);
            }
            Directive::Online(name) => {
                tell(output, name, Tone::Good.paint("is back on the network."))?;
                let pending = stage.desktop(name)?.pending()?;
                tell(output, "", format_args!("{pending} of its events have waited."))?;
                stage.desktop(name)?.cut(false);
            }
        }
        if output.is_live() {
            tokio::time::sleep(READING).await;
            stage.glance();
        }
    }
    stage.tell_conflicts()
}

/// Small writes of all writers, while the desktop of the story joins and leaves the network.
async fn go_on(
    output: &Output,
    stage: &mut Stage,
    story: &[Directive],
    length: Duration,
) -> Result<()> {
    let steps: Vec<Step> = script::parse(LOOP)?
        .into_iter()
        .filter_map(|directive| match directive {
            Directive::Step(step) => Some(step),
            _ => None,
        })
        .collect();
    let traveller = story.iter().find_map(|directive| match directive {
        Directive::Offline(name) => Some(name.as_str()),
        _ => None,
    });
    tell(output, "", format_args!("And so on, for {} s.", length.as_secs()))?;
    let mut random = fastrand::Rng::new();
    let end = tokio::time::sleep(length);
    tokio::pin!(end);
    let mut turns = tokio::time::interval(ONLINE);
    turns.tick().await;
    loop {
        let pause = Duration::from_millis(random.u64(PAUSE_MS));
        tokio::select! {
            () = &mut end => break,
            _ = turns.tick() => {
                if let Some(name) = traveller {
                    let desktop = stage.desktop(name)?;
                    let leaves = desktop.is_online();
                    desktop.cut(leaves);
                    let where_to = if leaves { "is cut off." } else { "is back." };
                    tell(output, name, Tone::Notable.paint(where_to))?;
                }
            }
            () = tokio::time::sleep(pause) => {
                let step = random.choice(&steps).expect("the loop has steps");
                tell(output, step.who(), step.sentence())?;
                stage.attempt(step).await?;
            }
        }
    }
    if let Some(name) = traveller {
        let desktop = stage.desktop(name)?;
        if !desktop.is_online() {
            desktop.cut(false);
            tell(output, name, Tone::Good.paint("is back."))?;
        }
    }
    stage.sync_quietly().await
}

/// One table of the proof, as `--json` prints it.
#[derive(Serialize)]
struct Proven {
    table: String,
    rows: usize,
    hash: String,
    /// Rows of desktops that differ from the hub's: the desktop's name and the key.
    differing: Vec<(String, String)>,
}

/// The outcome, as `--json` prints it.
#[derive(Serialize)]
struct Outcome<'a> {
    equal: bool,
    dir: String,
    databases: Vec<&'a str>,
    conflicts: u64,
    tables: Vec<Proven>,
}

/// The most differing rows that are named for each table.
const NAMED: usize = 10;

/// Proves that all databases are equal, and prints the result. False if they differ.
async fn finish(output: &Output, stage: &Stage) -> Result<bool> {
    let mut proven = Vec::new();
    for table in &stage.tables()? {
        let there = proof::remote(stage.remote(), table).await?;
        let mut differing = Vec::new();
        for desktop in stage.desktops() {
            let keys = desktop.dump(table)?.differences(&there);
            differing.extend(keys.into_iter().map(|key| (desktop.name().to_owned(), key)));
        }
        let (rows, hash) = (there.rows(), there.hash());
        proven.push(Proven { table: table.name.clone(), rows, hash, differing });
    }
    let equal = proven.iter().all(|table| table.differing.is_empty());
    if output.is_json() {
        output.json(&Outcome {
            equal,
            dir: stage.folder().display().to_string(),
            databases: stage.names(),
            conflicts: stage.desktops().iter().map(|d| d.status().conflicts).sum(),
            tables: proven,
        })?;
        return Ok(equal);
    }
    let names = stage.names();
    for desktop in stage.desktops() {
        let status = desktop.status();
        let (cursor, conflicts) = (status.cursor, status.conflicts);
        let lost = format_args!("is at seq {cursor}; {conflicts} of its events lost.");
        tell(output, desktop.name(), lost)?;
    }
    tell(output, "", format_args!("Every row of {} is compared:", names.join(", ")))?;
    output.line("")?;
    let rows: Vec<(Tone, Vec<String>)> = proven
        .iter()
        .map(|table| {
            let (tone, verdict) = match table.differing.len() {
                0 => (Tone::Plain, "equal".to_owned()),
                count => (Tone::Bad, format!("DIFFERENT: {count}")),
            };
            let cells = [&table.table, &table.rows.to_string(), &table.hash, &verdict];
            (tone, cells.map(|cell| cell.to_owned()).to_vec())
        })
        .collect();
    output.table(&["table", "rows", "hash", "in all databases"], &rows)?;
    for table in &proven {
        for (name, key) in table.differing.iter().take(NAMED) {
            let key = super::output::clean(key, usize::MAX);
            output.line(format_args!("{name} differs from the hub in {} {key}", table.table))?;
        }
    }
    output.line("")?;
    let rows: usize = proven.iter().map(|table| table.rows).sum();
    let (tone, verdict) = match equal {
        true => (Tone::Good, format!("All {} databases are equal: {rows} rows each.", names.len())),
        false => (Tone::Bad, "The databases are NOT equal.".to_owned()),
    };
    output.line(tone.paint(verdict))?;
    Ok(equal)
}

/// Names commands to try on the files.
fn farewell(output: &Output, stage: &Stage) -> Result<()> {
    let folder = stage.folder().display();
    output.line(format_args!("\nThe databases are in {folder}. Look around in them:\n"))?;
    let traveller = stage.traveller();
    let db = traveller.path().display();
    let port = stage.port();
    let hub = stage.hub_file();
    let program = program();
    for command in [
        format!("{program} log --db {db} --origin me"),
        format!("{program} conflicts --db {db}"),
        format!("{program} status --db {db} --offline"),
    ] {
        output.line(format_args!("  {command}"))?;
    }
    output.line("\nWith the hub running again, they replicate as before:\n")?;
    let hub = hub.display();
    output.line(format_args!("  {program} hub --db {hub} --listen 127.0.0.1:{port}"))?;
    output.line(format_args!("  {program} run --db {db}"))
}

/// The program's name as it was called: it may not be in the shell's path.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned())
}
