//! Kills what a dead parent leaves, and the processes that have escaped from the groups of a living one.
//!
//! While the parent lives it kills its groups itself, and the guardian kills the escaped processes of a child when it
//! is told to. After the parent's death the guardian kills all of them. An *escaped* process carries the mark of a
//! child or descends from it, and is in no group that is being killed: it called `setsid`, or was born between the fork
//! and the message that names the group. One look through the process table is not atomic, so looks are repeated until
//! two in a row, with a pause between, found none. Descendants are noted down while a child is guarded, see
//! `descent.rs`; processes that may or may not belong to a run are named, see `unattributed.rs`.
//!
//! The end of the socket tells more than that the parent is dead. A child between fork and exec has a copy of the
//! parent's end, so by the time the socket ends every child has closed that copy in its exec. Its mark can then be
//! hidden only by what is left of that exec, and a look detects a process in an exec.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Named;

use super::child_entry::{ChildEntry, LookSummary, QUIET_PAUSE, adjusted};
#[cfg(target_os = "linux")]
use super::descent::{Descent, ProcFs};
#[cfg(target_os = "linux")]
use super::identity::is_guardian;
use super::parent_stops::{ParentStops, StopAction};
#[cfg(target_os = "linux")]
use super::unattributed::ParentIds;
#[cfg(target_os = "linux")]
use crate::group::{GroupWatch, kin, mark};
use crate::group::{ProcessGroup, since_boot, was_started_after};
use crate::kill::target_batch::TargetBatch;
#[cfg(target_os = "linux")]
use crate::kill::target_batch::in_shared_grace;
use crate::kill::{Kill, KillPolicy, Outcome};
use crate::signal::Signal;

/// How long before the guardian was told of its group a child may have been started, as a rule. It bounds the start of
/// a child whose leader has ended by then.
#[cfg(target_os = "linux")]
const START: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Target {
    Group(i32),
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux can find one"))]
    Escaped(i32),
}

pub(super) struct Cleanup {
    /// The name of the run's mark.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux can find it"))]
    mark: String,
    children: BTreeMap<u64, ChildEntry>,
    /// The kills under way, each with its child.
    kills: TargetBatch<Target, u64>,
    /// Escaped processes that SIGKILL did not end, each with its child. They are not tried again.
    survivors: HashMap<Target, u64>,
    next_look: Instant,
    #[cfg(target_os = "linux")]
    descent: Descent,
    #[cfg(target_os = "linux")]
    parent_ids: ParentIds,
    parent: i32,
    /// `None`: the parent's stops are not followed.
    parent_stops: Option<ParentStops>,
    /// Processes to be named to the parent, each with the child that it may belong to.
    unattributed: Vec<(u64, i32)>,
    /// Processes that were named to the parent already, with their starts.
    #[cfg(target_os = "linux")]
    named: HashMap<i32, u64>,
}

impl Cleanup {
    pub(super) fn new(mark: String) -> Cleanup {
        Cleanup {
            mark,
            children: BTreeMap::new(),
            kills: TargetBatch::new(),
            survivors: HashMap::new(),
            next_look: Instant::now(),
            #[cfg(target_os = "linux")]
            descent: Descent::new(),
            #[cfg(target_os = "linux")]
            parent_ids: ParentIds::read(),
            parent: nix::unistd::getppid().as_raw(),
            parent_stops: None,
            unattributed: Vec::new(),
            #[cfg(target_os = "linux")]
            named: HashMap::new(),
        }
    }

    pub(super) fn announce(&mut self, id: u64, policy: KillPolicy) {
        self.children.insert(id, ChildEntry::new(adjusted(policy)));
        #[cfg(target_os = "linux")]
        self.descent.begin();
    }

    pub(super) fn guard(&mut self, id: u64, pgid: i32, at: Duration) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.group_is_known = true;
        let Ok(group) = ProcessGroup::new(pgid) else { return };
        // A race in which the number is another process's by now:
        // 1. The parent sends the group's number, and dies before the guardian has read it.
        // 2. The leader ends, and is reaped by the process that inherited it.
        // 3. The number is given to a new process, which is therefore started later than `at`.
        // The group is held first and asked for its start then, so that nothing can change in between.
        let kill = Kill::new(group, &child.policy);
        child.group = (!was_started_after(pgid, at)).then_some(kill);
        #[cfg(target_os = "linux")]
        if child.group.is_some() {
            // The leader is the first of its processes, and the ancestor of all others.
            let leader = kin::of(pgid).map(|kin| kin.started);
            child.first_start = leader.unwrap_or_else(|| kin::ticks(at.saturating_sub(START)));
            self.descent.has_leader(pgid, id, &ProcFs(&self.mark));
        }
    }

    /// Follows the parent's stops. `limit` is counted from `at` since boot; zero is none.
    pub(super) fn follow_stops(&mut self, limit: Duration, at: Duration) {
        let left = limit.saturating_sub(since_boot().saturating_sub(at));
        let left = (!limit.is_zero()).then_some(left);
        match &mut self.parent_stops {
            Some(stops) => stops.set_limit(left),
            None => self.parent_stops = Some(ParentStops::new(left)),
        }
    }

    fn step_parent_stops(&mut self) {
        let (parent, now) = (self.parent, Instant::now());
        let Some(stops) = self.parent_stops.as_mut().filter(|stops| now >= stops.next_poll()) else { return };
        if !self.children.values().any(ChildEntry::follows_stops) {
            return;
        }
        let send = |children: &BTreeMap<u64, ChildEntry>, signal| {
            children.values().filter_map(|child| child.group.as_ref()).for_each(|group| group.send_aside(signal));
        };
        match stops.poll(parent, now) {
            StopAction::Nothing => {}
            StopAction::Stop => {
                send(&self.children, Signal::STOP);
                // A parent that was continued meanwhile has continued its groups before this stop, and not after it.
                if stops.poll(parent, now) == StopAction::Continue {
                    send(&self.children, Signal::CONT);
                }
            }
            StopAction::Continue => send(&self.children, Signal::CONT),
            StopAction::Kill => {
                // Pending in the stopped parent, this tells it when it is continued why its groups are dead.
                let _ = signal_parent(parent, Named::SIGALRM);
                self.note_descendants();
                self.kill_all();
            }
        }
        #[cfg(target_os = "linux")]
        if self.parent_stops.as_ref().is_some_and(ParentStops::are_in_force) {
            self.stop_unknown_groups();
        }
    }

    /// Finds and stops the groups that the parent has started and not told of, since it was stopped in between.
    ///
    /// The leader of such a group is the first child of the parent with the mark that leads a group: an escaped process
    /// becomes the parent's child later. If the parent is continued meanwhile, the next poll continues the group.
    #[cfg(target_os = "linux")]
    fn stop_unknown_groups(&mut self) {
        let unknown = self.children.iter().filter(|(_, child)| !child.group_is_known).map(|(id, _)| *id);
        let unknown: Vec<u64> = unknown.collect();
        if unknown.is_empty() {
            return;
        }
        let mut leaders: Vec<_> = kin::all().into_iter().filter_map(|pid| Some((kin::of(pid)?, pid))).collect();
        leaders.retain(|(kin, pid)| kin.parent == self.parent && kin::group(*pid) == Some(*pid));
        leaders.sort_by_key(|(kin, pid)| (kin.started, *pid));
        for id in unknown {
            let value = Some(id.to_string());
            let leader = leaders.iter().find(|(_, pid)| mark::value(*pid, &self.mark) == value);
            let Some((_, leader)) = leader else { continue };
            self.guard(id, *leader, since_boot());
            let group = self.children.get(&id).and_then(|child| child.group.as_ref());
            group.into_iter().for_each(|group| group.send_aside(Signal::STOP));
        }
    }

    pub(super) fn kill_escaped(&mut self, id: u64) {
        if let Some(child) = self.children.get_mut(&id) {
            child.killing_since.get_or_insert_with(Instant::now);
            // The parent is killing the group: a child of a dying member is that member's only until it is dead.
            self.note_descendants();
        }
    }

    pub(super) fn release_group(&mut self, id: u64) {
        if let Some(child) = self.children.get_mut(&id) {
            child.group = None;
        }
    }

    pub(super) fn release(&mut self, id: u64) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.killing_since.is_none() {
            self.children.remove(&id);
            return;
        }
        child.released = true;
        child.group = None;
    }

    /// The parent is dead: everything that it did not release is to be killed.
    pub(super) fn parent_died(&mut self) {
        self.parent_stops = None;
        self.note_descendants();
        self.kill_all();
        self.children.values_mut().for_each(|child| child.released = true);
    }

    /// Notes the descendants before the first signal: after the death of its parent a process is no descendant any
    /// more.
    fn note_descendants(&mut self) {
        #[cfg(target_os = "linux")]
        self.descent.look(&ProcFs(&self.mark));
    }

    fn kill_all(&mut self) {
        for (id, child) in &mut self.children {
            if let Some(kill) = child.group.take() {
                self.kills.add(Target::Group(kill.pgid()), *id, kill);
            }
            child.killing_since.get_or_insert_with(Instant::now);
        }
        self.next_look = Instant::now();
    }

    /// Whether there is nothing to kill and nothing to guard.
    pub(super) fn is_over(&self) -> bool {
        self.children.is_empty() && self.kills.is_empty()
    }

    pub(super) fn step(&mut self) {
        self.step_parent_stops();
        // The kills come first, since a look through the whole process table takes its time.
        self.step_kills();
        if self.is_looking() && Instant::now() >= self.next_look {
            self.look();
        }
        self.step_kills();
        #[cfg(target_os = "linux")]
        self.step_descent();
        self.children.retain(|_, child| child.quiet_looks < 2);
        // Their numbers may become other processes' some day.
        self.survivors.retain(|_, id| self.children.contains_key(id));
    }

    /// The processes that have to be named to the parent, each with the child that it may belong to.
    pub(super) fn take_unattributed(&mut self) -> Vec<(u64, i32)> {
        std::mem::take(&mut self.unattributed)
    }

    #[cfg(target_os = "linux")]
    fn step_descent(&mut self) {
        let over = self.children.iter().filter(|(_, child)| child.quiet_looks >= 2 && child.first_start > 0);
        let over: Vec<_> = over.map(|(id, child)| (*id, child.first_start)).collect();
        for (id, since) in over {
            for (pid, kin) in self.parent_ids.unattributed(since, |pid, kin| self.descent.knows(pid, kin)) {
                // A process that may belong to several children is named once.
                if self.named.insert(pid, kin.started) != Some(kin.started) {
                    self.unattributed.push((id, pid));
                }
            }
        }
        if self.children.values().all(|child| child.quiet_looks >= 2) {
            self.descent.rest();
        } else if Instant::now() >= self.descent.next_look() {
            self.descent.retain(|id| self.children.contains_key(&id));
            self.descent.look(&ProcFs(&self.mark));
        }
    }

    /// Goes on with the kills. When the last has ended the next look is due soon: it may have left children behind.
    fn step_kills(&mut self) {
        let were_running = !self.kills.is_empty();
        for ended in self.kills.step() {
            let is_gone = ended.result.is_ok_and(|report| report.outcome != Outcome::Survived);
            // A group is forgotten even if it survived: members may have left it in time, and are looked for.
            if !is_gone && matches!(ended.target, Target::Escaped(_)) {
                self.survivors.insert(ended.target, ended.note);
            }
        }
        if were_running && self.kills.is_empty() {
            self.next_look = self.next_look.min(Instant::now() + QUIET_PAUSE);
        }
    }

    /// Sleeps until there is something to do, or something to read from the socket.
    pub(super) fn sleep(&mut self, socket: Option<BorrowedFd<'_>>) {
        let until = |instant: Instant| instant.saturating_duration_since(Instant::now());
        let mut pause = if self.is_looking() { until(self.next_look) } else { Duration::MAX };
        #[cfg(target_os = "linux")]
        if !self.children.is_empty() {
            pause = pause.min(until(self.descent.next_look()));
        }
        if let Some(stops) = &self.parent_stops {
            if self.children.values().any(ChildEntry::follows_stops) {
                pause = pause.min(until(stops.next_poll()));
            }
        }
        self.kills.sleep(socket, pause);
    }

    fn is_looking(&self) -> bool {
        self.children.values().any(|child| child.killing_since.is_some())
    }

    fn look(&mut self) {
        let start = Instant::now();
        #[cfg(target_os = "linux")]
        let (found_some, some_in_exec) = self.kill_found();
        #[cfg(not(target_os = "linux"))]
        let (found_some, some_in_exec) = (false, false);
        for (id, child) in &mut self.children {
            if child.killing_since.is_some() {
                child.count_look(start, self.kills.notes().any(|of| of == id), some_in_exec);
            }
        }
        let mut killed = self.children.values().filter(|child| child.killing_since.is_some());
        let summary = LookSummary {
            took: start.elapsed(),
            found_some,
            all_are_released: killed.clone().all(|child| child.released),
            some_have_grace: killed.any(ChildEntry::has_grace),
            no_kill_runs: self.kills.is_empty(),
        };
        self.next_look = Instant::now() + summary.pause();
    }

    /// Finds escaped processes and starts their kills. Returns whether there were new ones, and whether some process
    /// was in an exec, where its mark cannot be read.
    #[cfg(target_os = "linux")]
    fn kill_found(&mut self) -> (bool, bool) {
        let table = ProcFs(&self.mark);
        let carriers = mark::carriers(&self.mark);
        for carrier in carriers.found {
            if let Some(id) = carrier.value.parse().ok().filter(|id| self.children.contains_key(id)) {
                self.descent.has_marked(carrier.pid, id, &table);
            }
        }
        self.descent.look_at_all(&table);
        let mut found_some = false;
        for (pid, known) in self.descent.known() {
            let Some(child) = self.children.get(&known.id) else { continue };
            let Some(since) = child.killing_since else { continue };
            let Some(pgid) = kin::group(pid) else { continue };
            let is_in_its_group = child.group.as_ref().is_some_and(|group| group.pgid() == pgid);
            let is_killed = |target| self.kills.has(target) || self.survivors.contains_key(&target);
            let is_it = move |pid| kin::of(pid).is_some_and(|kin| kin.started == known.started && kin.runs);
            let target = Target::Escaped(pid);
            // The guardian of a run within this one has to kill what that run leaves.
            let is_spared = is_in_its_group || is_killed(target) || is_killed(Target::Group(pgid)) || is_guardian(pid);
            if is_spared || !is_it(pid) {
                continue;
            }
            // It is held by its pidfd first and identified then: the number cannot become another's in between.
            let Some(process) = GroupWatch::of_process(pid, is_it) else { continue };
            let policy = in_shared_grace(&child.policy, since);
            self.kills.add(target, known.id, Kill::over(process, &policy));
            found_some = true;
        }
        (found_some, carriers.some_in_exec)
    }
}

/// Signals the parent. It has not ended, since the socket has not; a parent that is ours no more is not signalled.
fn signal_parent(parent: i32, signal: Named) -> nix::Result<()> {
    if nix::unistd::getppid().as_raw() != parent || parent <= 1 {
        return Ok(());
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), signal)
}

#[cfg(test)]
mod tests;
