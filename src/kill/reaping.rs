//! A child that is reaped as soon as it exits, while its group is still being killed.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::process::ExitStatus;
use std::task::Poll;

use tokio::process::{Child, ChildStdin};

/// The standard input of a child, given back when this is dropped: tokio closes it at the beginning of a wait, and the
/// child may read it until it exits.
struct KeptOpen<'a> {
    child: &'a mut Child,
    stdin: Option<ChildStdin>,
}

impl Drop for KeptOpen<'_> {
    fn drop(&mut self) {
        self.child.stdin = self.stdin.take();
    }
}

/// Waits for the kill, and for the child until then: the status, if it has come.
pub(super) async fn until<T>(
    mut kill: Pin<&mut impl Future<Output = T>>,
    child: &mut Child,
) -> (T, Option<io::Result<ExitStatus>>) {
    let stdin = child.stdin.take();
    let kept = KeptOpen { child, stdin };
    let mut status = None;
    let result = {
        let mut exit = pin!(kept.child.wait());
        poll_fn(|cx| {
            // The exit first: the kill ends by it.
            if status.is_none() {
                if let Poll::Ready(exited) = exit.as_mut().poll(cx) {
                    status = Some(exited);
                }
            }
            kill.as_mut().poll(cx)
        })
        .await
    };
    (result, status)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::process::Command;
    use tokio::time::timeout;

    use super::*;

    fn cat() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_child_may_read_its_input_until_it_exits_and_afterwards_if_the_wait_is_given_up() {
        let mut child = cat();
        let given_up = timeout(Duration::from_millis(50), until(pin!(pending::<()>()), &mut child)).await;
        assert!(given_up.is_err());
        assert!(child.stdin.is_some() && child.try_wait().unwrap().is_none(), "cat ends with its input");
    }

    #[tokio::test]
    async fn the_status_is_there_if_the_child_has_ended_before_the_kill() {
        let mut child = cat();
        let pid = child.id().unwrap();
        let reaped = async {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
            while crate::group::child::has_exited(pid as i32).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let ((), status) = until(pin!(reaped), &mut child).await;
        // It may be told of its exit at this very poll.
        assert!(status.is_none_or(|status| status.unwrap().signal() == Some(9)));
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        let ((), status) = until(pin!(async {}), &mut cat()).await;
        assert!(status.is_none(), "the kill was first");
    }
}
