//! The leaderboard: how often each peer was right in what it promises, and what it cost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::cell::{CellVerdict, JudgedCell};
use crate::latency::Latency;
use crate::peer::{self, Peer};
use crate::scale::{DEADLINE, GROUPS, Scale};

const BEGIN: &str = "<!-- peers: written by scripts/compare-peers -->";
const END: &str = "<!-- /peers -->";

pub(crate) struct Row {
    pub(crate) peer: &'static Peer,
    pub(crate) cells: Vec<JudgedCell>,
    pub(crate) latency: Result<Latency, String>,
    pub(crate) scale: Result<Scale, String>,
}

impl Row {
    fn promised(&self) -> impl Iterator<Item = &JudgedCell> {
        self.cells.iter().filter(|cell| self.peer.not_promised(cell.fixture).is_none())
    }

    fn passed(&self) -> usize {
        self.promised().filter(|cell| matches!(cell.verdict, CellVerdict::Pass)).count()
    }

    /// Of those promised, the ones of which nothing was proved.
    fn undecided(&self) -> usize {
        self.promised().filter(|cell| matches!(cell.verdict, CellVerdict::Undecided(_))).count()
    }

    /// A bench did not run, deadbeat has a cell that did not pass, or the control one that did.
    pub(crate) fn is_wrong(&self) -> bool {
        let ours = self.peer.package == Some("deadbeat");
        let control = self.peer.name == peer::CONTROL;
        self.latency.is_err()
            || self.scale.is_err()
            || ours && self.passed() < self.promised().count()
            || control && self.passed() > 0
    }

    /// Fixture by fixture, on how many runtimes it failed, and the first reason.
    fn failed(&self) -> BTreeMap<&str, (usize, String)> {
        let mut failed = BTreeMap::new();
        for cell in self.promised() {
            let why = match &cell.verdict {
                CellVerdict::Fail(why) => why.clone(),
                CellVerdict::Pass | CellVerdict::Undecided(_) => continue,
            };
            failed.entry(cell.fixture).or_insert((0, format!("{}: {why}", cell.runtime))).0 += 1;
        }
        failed
    }

    fn line(&self) -> String {
        let peer = self.peer;
        let name = format!("[{}]({}) {} {}", peer.name, peer.docs, peer.version(), (peer.how)());
        let (passed, undecided) = (self.passed(), self.undecided());
        let promised = match undecided {
            0 => self.promised().count().to_string(),
            undecided => format!("{} ({undecided} undecided)", self.promised().count() - undecided),
        };
        let not = self.cells.len() - self.promised().count();
        let latency = match &self.latency {
            Ok(latency) => {
                let (p50, p99) = (ms(latency.p50_ms), ms(latency.p99_ms));
                format!("{p50} / {p99} | {} of {}", latency.early, latency.rounds)
            }
            Err(_) => "- | -".into(),
        };
        let Ok(scale) = &self.scale else {
            return format!("| {} | {passed} of {promised} | {not} | {latency} | - | - | - | - | - |", name.trim());
        };
        let wall = scale.wall_s.map_or(format!("> {} s", DEADLINE.as_secs()), |wall| format!("{wall:.2} s"));
        format!(
            "| {} | {passed} of {promised} | {not} | {latency} | {wall} | {} | {:.2} s | {} | {} |",
            name.trim(),
            scale.threads,
            scale.cpu_s,
            format_args!("{}, {}", scale.pulse.split(':').next().unwrap_or_default(), ms(scale.longest_ms)),
            scale.survivors,
        )
    }
}

fn ms(time: f64) -> String {
    if time < 100.0 { format!("{time:.2} ms") } else { format!("{:.2} s", time / 1e3) }
}

pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = format!(
        "| | right ends of those promised | not promised | obedient group, p50 / p99 | not dead at return \
         | {GROUPS} stubborn groups at once | threads | CPU | runtime, longest stall | survivors |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for row in rows {
        text += &row.line();
        text.push('\n');
    }
    text
}

/// What the table has no room for.
pub(crate) fn details(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{} {}", row.peer.name, row.peer.version());
        for (fixture, (runtimes, why)) in row.failed() {
            let _ = writeln!(text, "  {fixture:18} failed on {runtimes} of 3 runtimes; {why}");
        }
        for cell in row.promised() {
            if let CellVerdict::Undecided(why) = &cell.verdict {
                let _ = writeln!(text, "  {:18} undecided on {}: {why}", cell.fixture, cell.runtime);
            }
        }
        for not in row.peer.not_promised {
            let kept = row.cells.iter().filter(|cell| not.fixtures.contains(&cell.fixture));
            let kept = kept.filter(|cell| matches!(cell.verdict, CellVerdict::Pass)).count();
            let _ = writeln!(text, "  not promised: {}\n    {} ({})", not.fixtures.join(", "), not.why, not.link);
            let _ = writeln!(text, "    {kept} of {} pass all the same", not.fixtures.len() * 3);
        }
        match &row.latency {
            Ok(latency) => {
                let error = latency.error.as_deref().map(|error| format!(", said: {error}")).unwrap_or_default();
                let (rounds, early) = (latency.rounds, latency.early);
                let _ = writeln!(text, "  latency: {rounds} rounds, {early} returned before the group was dead{error}");
            }
            Err(error) => text += &format!("  latency: {error}\n"),
        }
        match &row.scale {
            Ok(scale) => {
                let error = scale.error.as_deref().map(|error| format!(", said: {error}")).unwrap_or_default();
                let culprit = scale.culprit.as_deref().map(|culprit| format!(" ({culprit})")).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "  scale: {}, {:.1} ms at most{culprit}, {} kills said they failed{error}",
                    scale.pulse, scale.longest_ms, scale.errors
                );
            }
            Err(error) => text += &format!("  scale: {error}\n"),
        }
    }
    text
}

pub(crate) fn figure(rows: &[Row]) -> String {
    let all: Vec<_> =
        rows.iter().map(|row| format!("{} {} of {}", row.peer.name, row.passed(), row.promised().count())).collect();
    all.join(", ")
}

/// Between the two marks, whole or not at all.
pub(crate) fn write_into(path: &Path, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(path)?;
    let missing = || io::Error::other(format!("{} has no {BEGIN} .. {END}", path.display()));
    let begin = old.find(BEGIN).ok_or_else(missing)? + BEGIN.len();
    let end = begin + old[begin..].find(END).ok_or_else(missing)?;
    let new = format!("{}\n\n{text}\n{}", &old[..begin], &old[end..]);
    let beside = path.with_extension("new");
    fs::write(&beside, new)?;
    fs::rename(&beside, path)
}
