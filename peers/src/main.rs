//! Other people's kill functions through deadbeat's fixtures, on one machine, in one run.
//!
//! `scripts/compare-peers` runs it, in a pid namespace of its own: not every peer checks what it signals.

mod adapters;
mod cell;
mod latency;
mod leaderboard;
mod peer;
mod scale;
mod started;
mod target;

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use deadbeat::fixture;
use deadbeat::suite::{RUNTIMES, runtime_name};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cell::{CellVerdict, JudgedCell};
use crate::latency::Latency;
use crate::leaderboard::Row;
use crate::peer::Peer;

/// Half of it is what a slow machine may take for a kill that takes milliseconds.
const GRACE: Duration = Duration::from_secs(3);

/// In the benches, which wait for nothing else.
const SHORT_GRACE: Duration = Duration::from_secs(2);

/// Cells side by side: they wait, they do not compute.
const JOBS: usize = 24;

fn main() -> ExitCode {
    // Only the script's namespace is known to hold no other process.
    let outside = std::env::var("DEADBEAT_OUTSIDE").unwrap_or_default();
    let here = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    if outside.is_empty() || here.is_empty() || outside == here {
        eprintln!("peers: not in a pid namespace of its own; run scripts/compare-peers");
        return ExitCode::from(2);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        ["cell", name, fixture, runtime] => {
            let (Some(peer), Some(fixture)) = (Peer::named(name), fixture::named(fixture)) else {
                return usage();
            };
            let Some(flavor) = RUNTIMES.iter().find(|flavor| runtime_name(**flavor) == runtime) else {
                return usage();
            };
            tell(cell::run(peer, &fixture, *flavor, GRACE))
        }
        ["latency"] => tell(latency::measure(SHORT_GRACE)),
        ["scale", name] => match Peer::named(name) {
            Some(peer) => tell(scale::measure(peer, SHORT_GRACE)),
            None => usage(),
        },
        [] => compare(None),
        [page] => compare(Some(Path::new(page))),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("peers: give a file to write the leaderboard into, or nothing");
    ExitCode::from(2)
}

/// As a line of JSON. Ends the process: a peer's threads may still be stuck.
fn tell<T: Serialize>(result: T) -> ! {
    println!("{}", serde_json::to_string(&result).expect("plain data"));
    let _ = std::io::stdout().flush();
    std::process::exit(0)
}

/// In a process of its own, so that no peer is charged for another's threads and forks.
fn bench<T: DeserializeOwned>(words: &[&str]) -> Result<T, String> {
    let output = Command::new("/proc/self/exe").args(words).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{}: {error}", output.status))
}

fn compare(page: Option<&Path>) -> ExitCode {
    let begun = Instant::now();
    eprintln!("cells, latency, then scale, peer by peer");
    let mut cells = cells();
    let latency = match bench::<Vec<Latency>>(&["latency"]) {
        Ok(all) => all.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); peer::ALL.len()],
    };
    let rows: Vec<Row> = peer::ALL
        .iter()
        .zip(latency)
        .map(|(peer, latency)| {
            eprintln!("scale: {}", peer.name);
            let cells = cells.extract_if(.., |cell| cell.peer == peer.name).collect();
            Row { peer, cells, latency, scale: bench(&["scale", peer.name]) }
        })
        .collect();
    let text = leaderboard::markdown(&rows);
    println!("{}\n{text}", leaderboard::details(&rows));
    if let Some(Err(error)) = page.map(|path| leaderboard::write_into(path, &text)) {
        eprintln!("peers: {error}");
        return ExitCode::from(2);
    }
    println!("{}, in {:.0} s", leaderboard::figure(&rows), begun.elapsed().as_secs_f64());
    ExitCode::from(u8::from(rows.iter().any(Row::is_wrong)))
}

/// Every peer against every fixture on every runtime, each in a process of its own. Not
/// `already-gone`, whose leader has been reaped: the owner of the child cannot kill it then, and a peer that is given a
/// number alone is not asked to.
fn cells() -> Vec<JudgedCell> {
    let fixtures = fixture::ALL.iter().filter(|fixture| fixture.name != "already-gone");
    let all = fixtures.flat_map(|fixture| peer::ALL.iter().map(move |peer| (peer.name, fixture.name)));
    let queue: VecDeque<_> =
        all.flat_map(|(peer, fixture)| RUNTIMES.iter().map(move |runtime| (peer, fixture, *runtime))).collect();
    let queue = Mutex::new(queue);
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
                    let Some((peer, fixture, flavor)) = next else { break };
                    let runtime = runtime_name(flavor);
                    let verdict = bench(&["cell", peer, fixture, &runtime]);
                    let verdict =
                        verdict.unwrap_or_else(|error| CellVerdict::Undecided(format!("the bench's process: {error}")));
                    let _ = sender.send(JudgedCell { peer, fixture, runtime, verdict });
                }
            });
        }
        drop(sender);
        results.iter().collect()
    })
}
