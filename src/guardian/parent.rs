//! What the parent knows: all that its guardian was told, so that the next one can be told it too.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::MARKS;
use super::letter::Letter;
use super::line::{Line, Program};
use crate::group::since_boot;
use crate::kill::KillPolicy;

#[derive(Debug)]
pub(super) struct Parent {
    program: Program,
    /// The name of this run's mark.
    pub(super) mark: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` after the guardian was found dead, until it is needed again.
    line: Option<Line>,
    /// All that a new guardian has to be told.
    wards: BTreeMap<u64, Told>,
    last: u64,
}

#[derive(Debug)]
struct Told {
    policy: KillPolicy,
    group: Option<(i32, Duration)>,
}

impl Parent {
    pub(super) fn open(program: Program, greet: impl FnOnce(&mut Line) -> io::Result<()>) -> io::Result<Parent> {
        let random = RandomState::new().hash_one(since_boot());
        let mark = format!("{MARKS}{}_{random:016X}", std::process::id());
        let line = Line::open(&program, &mark, greet)?;
        let state = State { line: Some(line), ..State::default() };
        Ok(Parent { program, mark, state: Mutex::new(state) })
    }

    pub(super) fn guardian(&self) -> Option<i32> {
        self.state().line.as_ref().map(Line::pid)
    }

    /// A new ward.
    pub(super) fn expect(&self, policy: &KillPolicy) -> io::Result<u64> {
        let mut state = self.state();
        state.last += 1;
        let ward = state.last;
        state.wards.insert(ward, Told { policy: policy.clone(), group: None });
        let told = self.tell(&mut state, &Letter::Expect { ward, policy: policy.clone() });
        if told.is_err() {
            state.wards.remove(&ward);
        }
        told.map(|()| ward)
    }

    pub(super) fn guard(&self, ward: u64, pgid: i32) -> io::Result<()> {
        let at = since_boot();
        let mut state = self.state();
        if let Some(told) = state.wards.get_mut(&ward) {
            told.group = Some((pgid, at));
        }
        self.tell(&mut state, &Letter::Guard { ward, pgid, at })
    }

    pub(super) fn release(&self, ward: u64) -> io::Result<()> {
        let mut state = self.state();
        state.wards.remove(&ward);
        self.tell(&mut state, &Letter::Release { ward })
    }

    /// Every change to the state is complete before it is told, so whoever panicked there left it good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the guardian what the state holds already. A new guardian is told all of it.
    fn tell(&self, state: &mut State, letter: &Letter) -> io::Result<()> {
        match state.line.as_ref().map(|line| line.send(letter)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => {
                // Dead, or stopped: before it sees the end of the line it must not be able to do anything.
                state.line.take().into_iter().for_each(Line::cut);
                tracing::warn!("the guardian does not listen, another is started when it is needed: {error}");
            }
            None => {}
        }
        if state.wards.is_empty() {
            return Ok(());
        }
        let brief = |line: &mut Line| {
            state.wards.iter().try_for_each(|(ward, told)| {
                line.send(&Letter::Expect { ward: *ward, policy: told.policy.clone() })?;
                told.group.map_or(Ok(()), |(pgid, at)| line.send(&Letter::Guard { ward: *ward, pgid, at }))
            })
        };
        state.line = Some(Line::open(&self.program, &self.mark, brief)?);
        Ok(())
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = state.line.take() {
            line.hang_up();
        }
    }
}
