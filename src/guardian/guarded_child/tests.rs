use super::super::message::Message;
use super::super::testing::{next_sent, sent};
use super::*;

/// Runs a future on one worker, which nothing in it may block.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn child() -> ProcessGroup {
    ProcessGroup::new(i32::MAX).unwrap()
}

#[test]
fn each_child_has_a_mark_and_what_becomes_of_it_is_sent() {
    let (client, guardian) = Client::to_test();
    let policy = KillPolicy::default();
    let mut first = GuardedChild::announce(&client, &policy, Blocking::Allowed).unwrap();
    let mut second = block_on(GuardedChild::announce_off_worker(&client, &policy)).unwrap();
    assert_eq!(first.mark(), (client.mark.as_str(), "1"));
    assert_eq!(second.mark(), (client.mark.as_str(), "2"));
    assert_eq!(first.guard(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let before = since_boot();
    first.guard(child().pgid()).unwrap();
    second.guard_off_worker(child());
    second.kill_escaped_off_worker();
    first.release();
    block_on(second.release_off_worker());
    let messages = sent(&guardian);
    let [Message::Guard { at: one, .. }, Message::Guard { at: two, .. }] = messages[2..4] else {
        panic!("{messages:?}")
    };
    assert!(before <= one && one <= two && two <= since_boot(), "{before:?} {one:?} {two:?}");
    let pgid = child().pgid();
    let expected = [
        Message::Announce { id: 1, policy: policy.clone() },
        Message::Announce { id: 2, policy },
        Message::Guard { id: 1, pgid, at: one },
        Message::Guard { id: 2, pgid, at: two },
        Message::KillEscaped { id: 2 },
        Message::Release { id: 1 },
        Message::Release { id: 2 },
    ];
    assert_eq!(messages, expected);
}

#[test]
fn what_would_block_a_worker_is_done_on_another_thread() {
    let (client, guardian) = Client::to_test();
    let mut guarded = block_on(async {
        let busy = client.keep_busy();
        let announcing = Arc::clone(&client);
        let announcing =
            tokio::spawn(async move { GuardedChild::announce_off_worker(&announcing, &KillPolicy::default()).await });
        tokio::task::yield_now().await;
        assert!(!announcing.is_finished());
        drop(busy);
        announcing.await.unwrap().unwrap()
    });
    assert!(matches!(next_sent(&guardian), Message::Announce { id: 1, .. }));

    let busy = client.keep_busy();
    guarded.guard_off_worker(child());
    drop(busy);
    // This one could be sent at once; but it must come second.
    guarded.kill_escaped_off_worker();
    let message = next_sent(&guardian);
    assert!(matches!(message, Message::Guard { id: 1, pgid, .. } if pgid == child().pgid()), "{message:?}");
    assert_eq!(next_sent(&guardian), Message::KillEscaped { id: 1 });

    block_on(async {
        let busy = client.keep_busy();
        let releasing = tokio::spawn(guarded.release_off_worker());
        tokio::task::yield_now().await;
        assert!(!releasing.is_finished());
        drop(busy);
        releasing.await.unwrap();
    });
    assert_eq!(sent(&guardian), [Message::Release { id: 1 }]);
}

#[test]
fn a_release_comes_after_what_was_deferred_before_it() {
    let (client, guardian) = Client::to_test();
    for released in 1..=2 {
        let mut guarded = GuardedChild::announce(&client, &KillPolicy::default(), Blocking::Allowed).unwrap();
        assert!(matches!(next_sent(&guardian), Message::Announce { .. }));
        let busy = client.keep_busy();
        guarded.kill_escaped_off_worker();
        drop(busy);
        match released {
            1 => guarded.release(),
            _ => block_on(guarded.release_off_worker()),
        }
        assert_eq!(sent(&guardian), [Message::KillEscaped { id: released }, Message::Release { id: released }]);
    }
}

#[test]
fn a_child_whose_announcement_is_not_awaited_any_more_is_released() {
    let (client, guardian) = Client::to_test();
    let announced = |taken: bool| {
        let (sender, receiver) = oneshot::channel();
        let mut pending = PendingChild(receiver);
        sender.send(GuardedChild::announce(&client, &KillPolicy::default(), Blocking::Allowed)).unwrap();
        assert!(matches!(next_sent(&guardian), Message::Announce { .. }));
        taken.then(|| block_on(&mut pending.0).unwrap().unwrap())
    };
    announced(false);
    assert_eq!(next_sent(&guardian), Message::Release { id: 1 });
    let taken = announced(true).unwrap();
    assert_eq!(sent(&guardian), []);
    taken.release();
}

#[test]
#[cfg(feature = "cli")]
fn a_dead_group_is_released_before_its_child_and_after_what_was_deferred() {
    let (client, guardian) = Client::to_test();
    let mut guarded = GuardedChild::announce(&client, &KillPolicy::default(), Blocking::Allowed).unwrap();
    let busy = client.keep_busy();
    guarded.guard_off_worker(child());
    drop(busy);
    guarded.release_group();
    guarded.release();
    let messages = sent(&guardian);
    assert!(matches!(messages[..2], [Message::Announce { id: 1, .. }, Message::Guard { id: 1, .. }]), "{messages:?}");
    assert_eq!(messages[2..], [Message::ReleaseGroup { id: 1 }, Message::Release { id: 1 }]);
}
