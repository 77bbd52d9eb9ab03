//! Other people's kill functions through deadbeat's fixtures, on one machine, in one run.
//!
//! `scripts/compare-peers` runs it, in a pid namespace of its own: not everybody here checks whom they signal.

mod adapters;
mod board;
mod cell;
mod latency;
mod peer;
mod prey;
mod scale;

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use deadbeat::fixture::{self, Fixture};
use deadbeat::suite::{RUNTIMES, runtime_name};
use serde::de::DeserializeOwned;

use crate::board::Row;
use crate::cell::Ruling;
use crate::peer::Peer;

/// Of the suite's cells. Half of it is what a slow machine may take for a kill that takes milliseconds.
const GRACE: Duration = Duration::from_secs(3);

/// Of the benches.
const SHORT_GRACE: Duration = Duration::from_secs(2);

/// Cells side by side: they wait, they do not compute.
const JOBS: usize = 24;

fn main() -> ExitCode {
    // Only the script's namespace is known to hold nobody else.
    let outside = std::env::var("DEADBEAT_OUTSIDE").unwrap_or_default();
    let here = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    if outside.is_empty() || here.is_empty() || outside == here {
        eprintln!("peers: not in a pid namespace of its own; run scripts/compare-peers");
        return ExitCode::from(2);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        ["latency", name] => one(name, latency::measure),
        ["scale", name] => one(name, scale::measure),
        [] => compare(None),
        [readme] => compare(Some(Path::new(readme))),
        _ => {
            eprintln!("peers: give a file to write the leaderboard into, or nothing");
            ExitCode::from(2)
        }
    }
}

/// One bench of one peer, as a line of JSON. Ends the process: a peer's threads may still be stuck.
fn one<T: serde::Serialize>(name: &str, bench: fn(&Peer, Duration) -> T) -> ExitCode {
    let Some(peer) = Peer::named(name) else {
        eprintln!("peers: no peer {name:?}");
        return ExitCode::from(2);
    };
    let line = serde_json::to_string(&bench(peer, SHORT_GRACE)).expect("plain data");
    println!("{line}");
    let _ = std::io::stdout().flush();
    std::process::exit(0)
}

fn bench<T: DeserializeOwned>(bench: &str, peer: &Peer) -> Result<T, String> {
    eprintln!("{bench}: {}", peer.name);
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program).args([bench, peer.name]).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{}: {error}", output.status))
}

fn compare(readme: Option<&Path>) -> ExitCode {
    let begun = Instant::now();
    let rulings = cells();
    let rows: Vec<Row> = peer::ALL
        .iter()
        .map(|peer| {
            let cells = rulings.iter().filter(|ruled| ruled.peer.name == peer.name);
            Row::new(peer, cells.collect(), bench("latency", peer), bench("scale", peer))
        })
        .collect();
    let text = board::markdown(&rows);
    println!("{}\n{text}", board::details(&rows));
    if let Some(Err(error)) = readme.map(|path| board::write_into(path, &text)) {
        eprintln!("peers: {error}");
        return ExitCode::from(2);
    }
    let wrong = rows.iter().filter(|row| row.is_wrong()).count();
    println!("{}, in {:.0} s", board::figure(&rows), begun.elapsed().as_secs_f64());
    ExitCode::from(u8::from(wrong > 0))
}

/// One cell, ruled.
pub(crate) struct Ruled {
    pub(crate) peer: &'static Peer,
    pub(crate) fixture: &'static Fixture,
    pub(crate) runtime: String,
    pub(crate) ruling: Ruling,
}

/// Every peer against every fixture on every runtime. Not `already-gone`, whose leader has been reaped: who owns the
/// child cannot kill it then, and who was given a number alone is not asked to.
fn cells() -> Vec<Ruled> {
    let fixtures = fixture::ALL.iter().filter(|fixture| fixture.name != "already-gone");
    let all = fixtures.flat_map(|fixture| peer::ALL.iter().map(move |peer| (peer, fixture)));
    let queue: VecDeque<_> =
        all.flat_map(|(peer, fixture)| RUNTIMES.iter().map(move |runtime| (peer, fixture, *runtime))).collect();
    let total = queue.len();
    eprintln!("cells: {total}");
    let queue = Mutex::new(queue);
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
                    let Some((peer, fixture, flavor)) = next else { break };
                    let ruling = cell::run(peer, fixture, flavor, GRACE);
                    let _ = sender.send(Ruled { peer, fixture, runtime: runtime_name(flavor), ruling });
                }
            });
        }
        drop(sender);
        results.iter().collect()
    })
}
