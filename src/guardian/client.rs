//! The parent's side of the protocol: sends the guardian each message, and remembers all that a new guardian has to be
//! told should this one die.
//!
//! A message is one write to a socket. What can take longer (starting another guardian, a guardian that does not read,
//! a lock held by a thread that does either) is refused with [`WouldBlock`](io::ErrorKind::WouldBlock) to a caller that
//! must not block.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::connection::{Connection, GuardianProgram};
use super::identity::MARK_PREFIX;
use super::message::Message;
use crate::group::since_boot;
use crate::kill::KillPolicy;

#[derive(Debug)]
pub(super) struct Client {
    program: GuardianProgram,
    start_wait: StartWait,
    /// The name of this run's mark.
    pub(super) mark: String,
    /// The guardian's pid, readable without the lock; 0 while there is none or it is being started.
    guardian: AtomicI32,
    state: Mutex<ClientState>,
}

#[derive(Debug, Default)]
struct ClientState {
    /// `None` after the guardian was found dead, until another is needed.
    connection: Option<Connection>,
    children: BTreeMap<u64, AnnouncedChild>,
    last_id: u64,
    /// The limit of what is guarded and the time since boot it is counted from, if the stops of this process are
    /// followed.
    stop_limit: Option<(Duration, Duration)>,
}

/// What the guardian was told of one child.
#[derive(Debug)]
struct AnnouncedChild {
    policy: KillPolicy,
    /// The group's number, and when it had that, in time since boot.
    group: Option<(i32, Duration)>,
    kills_escaped: bool,
}

/// Whether the calling thread may be blocked for longer than a write takes. A tokio worker may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocking {
    Allowed,
    Forbidden,
}

/// Whether the start of a guardian is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartWait {
    /// Until the guardian has answered: from then on it is out of reach of a signal to the parent's group, and holds
    /// none of the parent's descriptors.
    Awaited,
    /// For a forked copy of this process, which is both from its first instruction on.
    #[cfg_attr(not(any(test, feature = "cli")), expect(dead_code, reason = "only the program forks"))]
    NotAwaited,
}

/// How often a caller that must not block tries the lock, which others hold for one write.
const LOCK_TRIES: usize = 50;

impl Client {
    pub(super) fn open(program: GuardianProgram, start_wait: StartWait) -> io::Result<Client> {
        let random = RandomState::new().hash_one(since_boot());
        let mark = format!("{MARK_PREFIX}{}_{random:016X}", std::process::id());
        let connection = Connection::open(&program, &mark, |connection| match start_wait {
            StartWait::Awaited => connection.shake_hands(),
            StartWait::NotAwaited => Ok(()),
        })?;
        let guardian = AtomicI32::new(connection.pid());
        let state = ClientState { connection: Some(connection), ..ClientState::default() };
        Ok(Client { program, start_wait, mark, guardian, state: Mutex::new(state) })
    }

    /// The guardian's pid. Waits for a guardian that is being started: a caller that looks for orphans would otherwise
    /// take the new process for one.
    pub(super) fn guardian(&self) -> Option<i32> {
        let pid = || Some(self.guardian.load(Ordering::SeqCst)).filter(|pid| *pid != 0);
        pid().or_else(|| {
            let _started = self.wait_for_state();
            pid()
        })
    }

    /// Announces a child; returns its number.
    pub(super) fn announce(&self, policy: &KillPolicy, blocking: Blocking) -> io::Result<u64> {
        let mut state = self.state(blocking)?;
        state.last_id += 1;
        let id = state.last_id;
        let child = AnnouncedChild { policy: policy.clone(), group: None, kills_escaped: false };
        state.children.insert(id, child);
        let sent = self.send(&mut state, &Message::Announce { id, policy: policy.clone() }, blocking);
        if sent.is_err() {
            state.children.remove(&id);
        }
        sent.map(|()| id)
    }

    /// Has the group guarded that was the child's `at` this time since boot. Does nothing for a child that was released
    /// meanwhile.
    pub(super) fn guard(&self, id: u64, pgid: i32, at: Duration, blocking: Blocking) -> io::Result<()> {
        let mut state = self.state(blocking)?;
        let Some(child) = state.children.get_mut(&id) else { return Ok(()) };
        child.group = Some((pgid, at));
        self.send(&mut state, &Message::Guard { id, pgid, at }, blocking)
    }

    /// Has the processes killed that carry the child's mark and have left its group. Does nothing for a child that was
    /// released meanwhile.
    pub(super) fn kill_escaped(&self, id: u64, blocking: Blocking) -> io::Result<()> {
        let mut state = self.state(blocking)?;
        let Some(child) = state.children.get_mut(&id) else { return Ok(()) };
        child.kills_escaped = true;
        self.send(&mut state, &Message::KillEscaped { id }, blocking)?;
        // After the message: it may have been sent to a new guardian, which has no listener yet.
        state.connection.iter_mut().for_each(Connection::start_listener);
        Ok(())
    }

    /// Has guarded groups stopped and continued with this process, and killed if it is stopped `limit` after `at` since
    /// boot.
    #[cfg(feature = "cli")]
    pub(super) fn follow_stops(&self, limit: Duration, at: Duration, blocking: Blocking) -> io::Result<()> {
        let mut state = self.state(blocking)?;
        state.stop_limit = Some((limit, at));
        self.send(&mut state, &Message::FollowStops { limit, at }, blocking)
    }

    /// Ends the guard of a child's group; the processes with its mark stay under guard.
    #[cfg(feature = "cli")]
    pub(super) fn release_group(&self, id: u64, blocking: Blocking) -> io::Result<()> {
        let mut state = self.state(blocking)?;
        let Some(child) = state.children.get_mut(&id) else { return Ok(()) };
        child.group = None;
        self.send(&mut state, &Message::ReleaseGroup { id }, blocking)
    }

    pub(super) fn release(&self, id: u64, blocking: Blocking) -> io::Result<()> {
        let mut state = self.state(blocking)?;
        state.children.remove(&id);
        self.send(&mut state, &Message::Release { id }, blocking)
    }

    fn state(&self, blocking: Blocking) -> io::Result<MutexGuard<'_, ClientState>> {
        if blocking == Blocking::Allowed {
            return Ok(self.wait_for_state());
        }
        for _ in 0..LOCK_TRIES {
            match self.state.try_lock() {
                Ok(state) => return Ok(state),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Each change of the state is complete before its message is sent, so a panic there leaves the state consistent.
    fn wait_for_state(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the guardian what the state holds already. If the guardian is dead or deaf, another is started and told
    /// all of the state, `message` included.
    fn send(&self, state: &mut ClientState, message: &Message, blocking: Blocking) -> io::Result<()> {
        let sent = state.connection.as_ref().map(|connection| match blocking {
            Blocking::Allowed => connection.send(message),
            Blocking::Forbidden => connection.send_within(message, Duration::ZERO),
        });
        match sent {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) if blocking == Blocking::Forbidden && error.kind() == io::ErrorKind::WouldBlock => {
                return Err(error);
            }
            Some(Err(error)) => {
                // The guardian is dead or stopped. A stopped one must not be continued later and take the end of the
                // socket for the parent's death: it is killed.
                self.guardian.store(0, Ordering::SeqCst);
                state.connection.take().into_iter().for_each(Connection::kill);
                tracing::warn!("the guardian does not listen, another is started when it is needed: {error}");
            }
            None => {}
        }
        if state.children.is_empty() {
            return Ok(());
        }
        if blocking == Blocking::Forbidden {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let connection = Connection::open(&self.program, &self.mark, |connection| self.send_all(state, connection))?;
        self.guardian.store(connection.pid(), Ordering::SeqCst);
        state.connection = Some(connection);
        Ok(())
    }

    /// Tells a new guardian the whole state.
    fn send_all(&self, state: &ClientState, connection: &mut Connection) -> io::Result<()> {
        for (id, child) in &state.children {
            let id = *id;
            connection.send(&Message::Announce { id, policy: child.policy.clone() })?;
            if let Some((pgid, at)) = child.group {
                connection.send(&Message::Guard { id, pgid, at })?;
            }
            if child.kills_escaped {
                connection.send(&Message::KillEscaped { id })?;
            }
        }
        if let Some((limit, at)) = state.stop_limit {
            connection.send(&Message::FollowStops { limit, at })?;
        }
        if self.start_wait == StartWait::Awaited {
            // A guardian that starts too slowly to answer is kept: its messages are in the socket, and it will read
            // them.
            let not_up = |error| tracing::warn!("the new guardian is told everything and not up yet: {error}");
            connection.shake_hands().unwrap_or_else(not_up);
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = state.connection.take() {
            connection.close();
        }
    }
}

#[cfg(test)]
mod tests;
