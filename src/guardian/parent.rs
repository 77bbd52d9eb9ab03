//! What the parent knows: all that its guardian was told, so that the next one can be told it too.
//!
//! To tell it is one write to a socket. What can take longer (another guardian to be started, one that does not read, a
//! thread that is busy with either) is [refused](io::ErrorKind::WouldBlock) to those who must not block.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::MARKS;
use super::letter::Letter;
use super::line::{Line, Program};
use crate::group::since_boot;
use crate::kill::KillPolicy;

#[derive(Debug)]
pub(super) struct Parent {
    program: Program,
    start: Start,
    /// The name of this run's mark.
    pub(super) mark: String,
    /// Its pid, 0 while there is none or it is being started: to be read without waiting for the state.
    guardian: AtomicI32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` after the guardian was found dead, until it is needed again.
    line: Option<Line>,
    /// All that a new guardian has to be told.
    wards: BTreeMap<u64, Told>,
    last: u64,
    /// The limit of what is guarded, and since when, if our stops are to be followed.
    follow: Option<(Duration, Duration)>,
}

#[derive(Debug)]
struct Told {
    policy: KillPolicy,
    group: Option<(i32, Duration)>,
    /// Whoever is not in the group is being ended.
    strays: bool,
}

/// Whether the calling thread may be kept for longer than a write takes. A tokio worker may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    Block,
    NotBlock,
}

/// Whether the start of a guardian is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Until it says that it is one: from then on it is out of reach of what ends us, and holds nothing of ours.
    Awaited,
    /// It is a copy of this process, which is both from the first on.
    #[cfg_attr(not(any(test, feature = "cli")), expect(dead_code, reason = "only the program forks"))]
    NotAwaited,
}

/// How often a thread that must not block asks for the state, which others hold for one write.
const TRIES: usize = 50;

impl Parent {
    pub(super) fn open(program: Program, start: Start) -> io::Result<Parent> {
        let random = RandomState::new().hash_one(since_boot());
        let mark = format!("{MARKS}{}_{random:016X}", std::process::id());
        let line = Line::open(&program, &mark, |line| match start {
            Start::Awaited => line.shake_hands(),
            Start::NotAwaited => Ok(()),
        })?;
        let guardian = AtomicI32::new(line.pid());
        let state = State { line: Some(line), ..State::default() };
        Ok(Parent { program, start, mark, guardian, state: Mutex::new(state) })
    }

    /// While another is being started, this waits for it: one that is there and has no number yet is taken for a stray.
    pub(super) fn guardian(&self) -> Option<i32> {
        let pid = || Some(self.guardian.load(Ordering::SeqCst)).filter(|pid| *pid != 0);
        pid().or_else(|| {
            let _started = self.wait_for_state();
            pid()
        })
    }

    /// A new ward.
    pub(super) fn expect(&self, policy: &KillPolicy, may: May) -> io::Result<u64> {
        let mut state = self.state(may)?;
        state.last += 1;
        let ward = state.last;
        state.wards.insert(ward, Told { policy: policy.clone(), group: None, strays: false });
        let told = self.tell(&mut state, &Letter::Expect { ward, policy: policy.clone() }, may);
        if told.is_err() {
            state.wards.remove(&ward);
        }
        told.map(|()| ward)
    }

    /// `at` this time since boot the group was the ward's. Does nothing for one that was released meanwhile.
    pub(super) fn guard(&self, ward: u64, pgid: i32, at: Duration, may: May) -> io::Result<()> {
        let mut state = self.state(may)?;
        let Some(told) = state.wards.get_mut(&ward) else { return Ok(()) };
        told.group = Some((pgid, at));
        self.tell(&mut state, &Letter::Guard { ward, pgid, at }, may)
    }

    /// Does nothing for one that was released meanwhile.
    pub(super) fn end_strays(&self, ward: u64, may: May) -> io::Result<()> {
        let mut state = self.state(may)?;
        let Some(told) = state.wards.get_mut(&ward) else { return Ok(()) };
        told.strays = true;
        self.tell(&mut state, &Letter::EndStrays { ward }, may)?;
        // The guardian that has it, which may be a new one.
        state.line.iter_mut().for_each(Line::listen);
        Ok(())
    }

    /// Has what is guarded stopped and continued with us, and ended `limit` after `at` since boot if we are stopped then.
    #[cfg(feature = "cli")]
    pub(super) fn follow(&self, limit: Duration, at: Duration, may: May) -> io::Result<()> {
        let mut state = self.state(may)?;
        state.follow = Some((limit, at));
        self.tell(&mut state, &Letter::Follow { limit, at }, may)
    }

    /// Of the group alone; whoever carries the ward's mark stays under guard.
    #[cfg(feature = "cli")]
    pub(super) fn let_go(&self, ward: u64, may: May) -> io::Result<()> {
        let mut state = self.state(may)?;
        let Some(told) = state.wards.get_mut(&ward) else { return Ok(()) };
        told.group = None;
        self.tell(&mut state, &Letter::LetGo { ward }, may)
    }

    pub(super) fn release(&self, ward: u64, may: May) -> io::Result<()> {
        let mut state = self.state(may)?;
        state.wards.remove(&ward);
        self.tell(&mut state, &Letter::Release { ward }, may)
    }

    fn state(&self, may: May) -> io::Result<MutexGuard<'_, State>> {
        if may == May::Block {
            return Ok(self.wait_for_state());
        }
        for _ in 0..TRIES {
            match self.state.try_lock() {
                Ok(state) => return Ok(state),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Every change to the state is complete before it is told, so whoever panicked there left it good.
    fn wait_for_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the guardian what the state holds already. A new guardian is told all of it.
    fn tell(&self, state: &mut State, letter: &Letter, may: May) -> io::Result<()> {
        let told = state.line.as_ref().map(|line| match may {
            May::Block => line.send(letter),
            May::NotBlock => line.send_within(letter, Duration::ZERO),
        });
        match told {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) if may == May::NotBlock && error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Some(Err(error)) => {
                // Dead, or stopped: before it sees the end of the line it must not be able to do anything.
                self.guardian.store(0, Ordering::SeqCst);
                state.line.take().into_iter().for_each(Line::cut);
                tracing::warn!("the guardian does not listen, another is started when it is needed: {error}");
            }
            None => {}
        }
        if state.wards.is_empty() {
            return Ok(());
        }
        if may == May::NotBlock {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let brief = |line: &mut Line| {
            state.wards.iter().try_for_each(|(ward, told)| {
                line.send(&Letter::Expect { ward: *ward, policy: told.policy.clone() })?;
                told.group.map_or(Ok(()), |(pgid, at)| line.send(&Letter::Guard { ward: *ward, pgid, at }))?;
                if told.strays { line.send(&Letter::EndStrays { ward: *ward }) } else { Ok(()) }
            })?;
            state.follow.map_or(Ok(()), |(limit, at)| line.send(&Letter::Follow { limit, at }))?;
            // One that takes longer is at it all the same: what it was told is in the socket.
            if self.start == Start::Awaited {
                let not_up = |error| tracing::warn!("the new guardian is told everything and not up yet: {error}");
                line.shake_hands().unwrap_or_else(not_up);
            }
            Ok(())
        };
        let line = Line::open(&self.program, &self.mark, brief)?;
        self.guardian.store(line.pid(), Ordering::SeqCst);
        state.line = Some(line);
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

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Instant;

    use super::super::letter::LENGTH;
    use super::super::line::tests::{SOON, held};
    use super::*;
    use crate::group::{ProcessGroup, pause};
    use crate::signal::Signal;

    /// Reads what it is told; the second of its kind not at first.
    const SLOW: &str =
        "#!/bin/sh\ncd \"${0%/*}\" || exit\necho $$ >>pids\n[ -e go ] || { : >go; exec cat; }\nsleep 1\nexec cat\n";

    /// Writes down what it is told.
    const WRITER: &str = "#!/bin/sh\nexec cat >>\"${0%/*}/told\"\n";

    /// One whose guardian is the test, at the other end of the line.
    pub(in crate::guardian) fn told() -> (Arc<Parent>, UnixStream) {
        let (line, theirs) = held();
        let guardian = AtomicI32::new(line.pid());
        let state = Mutex::new(State { line: Some(line), ..State::default() });
        let mark = "DEADBEAT_TEST_PARENT".to_owned();
        (
            Arc::new(Parent {
                program: Program::Named("true".into()),
                start: Start::NotAwaited,
                mark,
                guardian,
                state,
            }),
            theirs,
        )
    }

    /// As while another thread waits for the guardian, until this is dropped.
    pub(in crate::guardian) fn keep_busy(parent: &Parent) -> impl Sized {
        parent.wait_for_state()
    }

    /// All that the guardian has been told since.
    pub(in crate::guardian) fn heard(mut guardian: &UnixStream) -> Vec<Letter> {
        let mut told = Vec::new();
        guardian.set_nonblocking(true).unwrap();
        let error = guardian.read_to_end(&mut told).expect_err("the line has ended");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        guardian.set_nonblocking(false).unwrap();
        letters(&told)
    }

    /// Waits for it.
    pub(in crate::guardian) fn next(mut guardian: &UnixStream) -> Letter {
        guardian.set_read_timeout(Some(SOON)).unwrap();
        let mut letter = [0; LENGTH];
        guardian.read_exact(&mut letter).unwrap();
        Letter::decode(&letter).unwrap()
    }

    fn letters(told: &[u8]) -> Vec<Letter> {
        told.chunks_exact(LENGTH).map(|letter| Letter::decode(letter.first_chunk().unwrap()).unwrap()).collect()
    }

    /// One whose guardian is this script.
    fn scripted(dir: &Path, script: &str) -> Parent {
        let program = dir.join("guardian");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        loop {
            match Parent::open(Program::Named(program.clone()), Start::NotAwaited) {
                // Another test's child, which has not come to its exec yet, can have it open for writing too.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => pause(Duration::from_millis(1)),
                parent => return parent.unwrap(),
            }
        }
    }

    fn pids(dir: &Path) -> Vec<i32> {
        let text = std::fs::read_to_string(dir.join("pids")).unwrap_or_default();
        // The last line may be half there.
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect()
    }

    #[test]
    fn the_guardian_is_told_what_happens_as_it_happens() {
        let (parent, guardian) = told();
        let (policy, at) = (KillPolicy::default(), Duration::from_secs(7));
        let first = parent.guardian();
        assert!(first.is_some());
        assert_eq!(parent.expect(&policy, May::Block).unwrap(), 1);
        assert_eq!(parent.expect(&policy, May::NotBlock).unwrap(), 2);
        parent.guard(1, 4242, at, May::NotBlock).unwrap();
        parent.end_strays(1, May::Block).unwrap();
        parent.release(2, May::Block).unwrap();
        // Whoever comes late does nothing.
        parent.guard(2, 4242, at, May::Block).unwrap();
        parent.end_strays(2, May::Block).unwrap();
        let expected = [
            Letter::Expect { ward: 1, policy: policy.clone() },
            Letter::Expect { ward: 2, policy },
            Letter::Guard { ward: 1, pgid: 4242, at },
            Letter::EndStrays { ward: 1 },
            Letter::Release { ward: 2 },
        ];
        assert_eq!(heard(&guardian), expected);
        assert_eq!(parent.guardian(), first);
    }

    #[test]
    fn who_must_not_block_is_refused_while_the_guardian_does_not_read_or_others_wait_for_it() {
        let (parent, guardian) = told();
        let first = parent.guardian();
        assert!(first.is_some());
        let expect = |may| parent.expect(&KillPolicy::default(), may).map_err(|error| error.kind());
        let full = (0..).find_map(|_| expect(May::NotBlock).err());
        assert_eq!(full, Some(io::ErrorKind::WouldBlock));
        assert_eq!(parent.guardian(), first, "it is there, and only slow");
        assert_eq!(
            parent.wait_for_state().wards.len(),
            heard(&guardian).len(),
            "nobody knows of a ward that was refused"
        );

        let state = parent.wait_for_state();
        std::thread::scope(|scope| {
            let start = Instant::now();
            let refused = scope.spawn(|| expect(May::NotBlock));
            while !refused.is_finished() && start.elapsed() < Duration::from_secs(10) {
                pause(Duration::from_millis(1));
            }
            assert_eq!(parent.guardian(), first, "who it is can be told all the time");
            let waits = scope.spawn(|| expect(May::Block));
            pause(Duration::from_millis(5));
            drop(state);
            assert_eq!(refused.join().unwrap(), Err(io::ErrorKind::WouldBlock));
            assert!(waits.join().unwrap().is_ok());
        });
    }

    #[test]
    fn the_next_guardian_is_told_everything_by_whoever_may_wait_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut parent = scripted(dir.path(), WRITER);
        // In place of the first one, which has read nothing then: it is looked at what the second one reads.
        let (line, theirs) = held();
        parent.guardian = AtomicI32::new(line.pid());
        parent.state.get_mut().unwrap().line.replace(line).unwrap().hang_up();
        let first = parent.guardian();
        let (policy, at) = (KillPolicy::default(), Duration::from_secs(7));
        assert_eq!(parent.expect(&policy, May::Block).unwrap(), 1);
        assert_eq!(parent.expect(&policy, May::Block).unwrap(), 2);
        parent.guard(1, 4242, at, May::Block).unwrap();
        // Another test may be about to exec a child that holds it open.
        theirs.shutdown(std::net::Shutdown::Both).unwrap();
        let refused = parent.end_strays(2, May::NotBlock).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(parent.guardian(), None, "a dead one is none");
        assert_eq!(parent.expect(&policy, May::Block).unwrap(), 3);
        let second = parent.guardian();
        assert!(second.is_some() && second != first);
        let expected = [
            Letter::Expect { ward: 1, policy: policy.clone() },
            Letter::Guard { ward: 1, pgid: 4242, at },
            Letter::Expect { ward: 2, policy: policy.clone() },
            Letter::EndStrays { ward: 2 },
            Letter::Expect { ward: 3, policy },
        ];
        let start = Instant::now();
        let read = || letters(&std::fs::read(dir.path().join("told")).unwrap_or_default());
        while read() != expected {
            assert!(start.elapsed() < SOON, "{:?}", read());
            pause(Duration::from_millis(1));
        }
    }

    #[test]
    #[cfg(feature = "cli")]
    fn a_group_that_was_let_go_is_told_of_no_more_and_its_ward_still_is() {
        let (parent, guardian) = told();
        let at = Duration::from_secs(7);
        assert_eq!(parent.expect(&KillPolicy::default(), May::Block).unwrap(), 1);
        parent.guard(1, 4242, at, May::Block).unwrap();
        parent.let_go(1, May::Block).unwrap();
        // Whoever comes late does nothing.
        parent.let_go(2, May::Block).unwrap();
        assert_eq!(parent.wait_for_state().wards[&1].group, None, "the next guardian would be told of it");
        assert_eq!(heard(&guardian)[1..], [Letter::Guard { ward: 1, pgid: 4242, at }, Letter::LetGo { ward: 1 }]);
    }

    #[test]
    fn without_a_ward_no_guardian_is_needed() {
        let (parent, theirs) = told();
        let ward = parent.expect(&KillPolicy::default(), May::Block).unwrap();
        // Another test may be about to exec a child that holds it open.
        theirs.shutdown(std::net::Shutdown::Both).unwrap();
        parent.release(ward, May::Block).unwrap();
        assert_eq!(parent.guardian(), None);
    }

    #[test]
    fn a_guardian_that_is_being_started_is_never_without_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let parent = scripted(dir.path(), SLOW);
        // More than a socket holds: the next one is told all of it, and is not up before it has read some.
        for _ in 0..4000 {
            parent.expect(&KillPolicy::default(), May::Block).unwrap();
        }
        let first = parent.guardian().unwrap();
        ProcessGroup::new(first).unwrap().signal(Signal::KILL).unwrap();
        std::thread::scope(|scope| {
            // The socket takes letters until the first is quite dead.
            scope.spawn(|| {
                while parent.guardian() == Some(first) {
                    parent.expect(&KillPolicy::default(), May::Block).unwrap();
                }
            });
            while pids(dir.path()).len() < 2 {
                pause(Duration::from_millis(1));
            }
            let second = pids(dir.path())[1];
            assert_eq!(parent.guardian(), Some(second), "it is there, and has no number");
        });
    }
}
