//! Whether groups are gone, by two walks through the process table.
//!
//! A group is gone when a walk through `/proc` saw no member that can run, nor any among the pids handed out meanwhile,
//! and an earlier walk *covers* it; or when the kernel says `ESRCH`. One walk proves nothing: it is not atomic, and a
//! member can fork into the part already walked and die before the walk reaches it. This is why two are enough:
//!
//! 1. A walk begins, and the number handed out last is noted. Each living member that it shows is held by its pidfd.
//!    It covers all that follows: a member that lives through the whole of it is held.
//! 2. All that are held exit. A fork is over before the process that forks can exit, so from here on whatever they have
//!    started is in the table.
//! 3. A second walk shows no member that can run.
//! 4. After it, the numbers handed out since step 1 are asked for their groups in the order of their birth, until the
//!    last number stands still: none is a member that can run.
//!
//! Suppose that a member lives. If its number was handed out before step 1 and it was in the table before step 3, the
//! second walk has shown it. If it came into the table later, its parent lived from step 1 to step 3 and was held: it
//! has exited. If its number was handed out after step 1, step 4 asks for it, unless it was not in the table yet.
//! Its parent, which was, lived then; that one's number is older, so it was asked for before or falls under the cases
//! above. What stays open is a process from outside that joins the group by `setpgid`.
//!
//! The first walk is made while the group is dying, right after a signal, and costs little time then. The members that
//! it found are held until they exit, at most 256 of a group, and all kills together never take over half of what this
//! process may open. Members beyond that are known by number: such a walk covers nothing, and two more are made when
//! they are dead. While a held member has not exited and is still in the group, the group is not gone, and no
//! walk is needed to know that.

use std::collections::HashMap;

use super::super::seen::Seen;
use super::new_pids::{self, NewPids};
use super::proc_watch::{Covering, ProcWatch};
use super::table::walk;

/// How many walks one look may take before a group whose members change all the time is left to the next look.
const WALKS: usize = 6;

/// Looks at many groups at once; only those without a held member cost a walk, and those that were just signalled.
/// They share it.
pub(in crate::group) fn look<K: Copy>(watches: &mut [(K, &mut ProcWatch)]) -> Vec<(K, Seen)> {
    let mut all_seen: Vec<Option<Seen>> = watches.iter_mut().map(|(_, watch)| watch.without_walk()).collect();
    if all_seen.contains(&None) {
        look_by_walks(watches, &mut all_seen);
    }
    let or_held = |watch: &mut ProcWatch| if watch.holds_a_live_member() { Seen::Alive } else { Seen::Unclear };
    watches
        .iter_mut()
        .zip(all_seen)
        .map(|((key, watch), seen)| (*key, seen.unwrap_or_else(|| or_held(watch))))
        .collect()
}

/// Walks through the table until each group is seen alive or gone, or six times.
fn look_by_walks<K>(watches: &mut [(K, &mut ProcWatch)], all_seen: &mut [Option<Seen>]) {
    let mut unseen = vec![0; watches.len()];
    for _ in 0..WALKS {
        let open = || watches.iter().zip(&*all_seen).filter(|(_, seen)| seen.is_none()).map(|((_, watch), _)| watch);
        let mut found: HashMap<i32, Vec<i32>> = open().map(|watch| (watch.pgid, Vec::new())).collect();
        if found.is_empty() {
            break;
        }
        let this = Covering { since: new_pids::last_pid() };
        let walked = walk(|pid, pgid| {
            if let Some(members) = found.get_mut(&pgid) {
                members.push(pid);
            }
        });
        if walked.is_err() {
            // Out of descriptors or memory, say: this decides nothing, and the next look may do better.
            break;
        }
        // The members that the walk found are asked first whether they live, for all groups, and the new pids after
        // that: a member that dies in between has started its children before.
        let mut shown = Vec::with_capacity(found.len());
        for (i, (_, watch)) in watches.iter_mut().enumerate().filter(|(i, _)| all_seen[*i].is_none()) {
            shown.push((i, watch.take_up_walk(&found[&watch.pgid])));
        }
        let mut new = NewPids::in_groups(found.into_keys());
        for (i, shown) in shown {
            all_seen[i] = watches[i].1.after_walk(this, shown, &mut new, &mut unseen[i]);
        }
    }
}
